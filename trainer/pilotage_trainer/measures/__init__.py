"""Arrays in, numbers out: accuracy, ranking, one score against another, slices with intervals."""
