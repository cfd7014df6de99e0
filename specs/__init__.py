"""What is right: rules, problems, hard inputs, oracles and error budgets."""
