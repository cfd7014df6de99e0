"""Where a failure comes from: the first stage that is wrong for its own inputs, and a paragraph in plain words."""
