"""What a policy and a critic are worth: on sessions, on STAR, beside a general model; report and page."""
