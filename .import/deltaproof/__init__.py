"""deltaproof: verified, tuned kernels of the gated delta rule family."""

import os

__version__ = "0.1.0"

# In a checkout the subpackages are the folders beside `.import`: imported from there, breakpoints and tracebacks name the
# files that one edits, and a clone without symbolic links works. The links are for type checkers.
_above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.basename(_above) == ".import":
    _root = os.path.dirname(_above)
    if not os.path.isfile(os.path.join(_root, "specs", "__init__.py")):
        raise ImportError(f"deltaproof: {_root} has no folder specs; {_above} belongs in a whole checkout")
    __path__.insert(0, _root)
