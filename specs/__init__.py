"""The specification: rules, problems, hard inputs, oracles and error budgets."""
