"""From held-out labels to a certificate: the Job, and (table/) anyone's table of labels."""
