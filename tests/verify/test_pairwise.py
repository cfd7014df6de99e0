from itertools import combinations

import pytest

from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.pairwise import OPTIONS, problems


def values_of(problem):
    """Option -> which of its values a problem has."""
    found = {}
    for name, values in OPTIONS.items():
        fits = [at for at, fields in enumerate(values) if all(getattr(problem, key) == x for key, x in fields.items())]
        found[name] = max(fits, key=lambda at: len(values[at]))
    return found


@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_every_pair_of_options_meets_in_some_problem(rule):
    rows = [values_of(problem) for problem in problems(rule)]
    fixed = ("gate",) if rule.decay == "none" else ()
    for one, other in combinations([name for name in OPTIONS if name not in fixed], 2):
        wanted = {(x, y) for x in range(len(OPTIONS[one])) for y in range(len(OPTIONS[other]))}
        assert {(row[one], row[other]) for row in rows} == wanted, (one, other)
    assert len(rows) < 20
