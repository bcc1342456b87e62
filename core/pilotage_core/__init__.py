"""The method, pure: no I/O, no network, no Kubernetes, no torch. Times are arguments.

In the order data meets them:

    errors        the error tree
    lines         exports read line by line, under limits
    actions       the nine tools, one action, and how a process cluster classes it
    screen        a screen as typed controls
    parsing, page, styles, roles, naming, radios, reading   HTML read into it, as a browser shows it
    masking       where personal data will be masked; pii: what of it a rule can tell, and masks by session
    source        whoever posts sessions
    events        what happens in a session, append-only
    state         the fold of those events
    dialog        the one serialiser for models, training and serving
    proposal      what a policy may answer, and the reading of its answer
    score         what critic and confidence make of an action
    walk          a session walked state by state, live or recorded
    record        what is stored and exported; labels; collector: many read at once
    gate          may this one action run now?
    permit        leave that lapses by itself, and the BPM's fence; boot_clock: the clock both ends count by
    certificate   evidence for a τ
    design_effect what labels in groups, or of unequal weight, are worth
    calibration   τ with an exact certificate
    monitoring    sequential watch over precision, anytime-valid bounds
    guardrail     what one reading means
    stage         the stage machine
    training      the settings of transformers
    experiment    two arms compared by customer
    job_exit      how Jobs end
    wire          messages between processes
"""
