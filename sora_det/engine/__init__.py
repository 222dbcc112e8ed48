"""Training: parameter groups, schedules, the loop, and `fit`, which runs a lazy config."""
