"""The method, pure: no I/O, no clock, no network, no Kubernetes, no torch.

In the order data meets it:

    errors        the error tree
    actions       the nine tools, one action, and how a process cluster classes it
    screen        a screen as typed controls; HTML read into it by declarative schemas
    events        what happens in a session, append-only
    state         the fold of those events
    dialog        the one serialiser for models, training and serving
    proposal      what a policy may answer, and the reading of its answer
    walk          a session walked state by state, live or recorded
    record        what is stored and exported; labels
    gate          may this one action run now?
    permit        leave that lapses by itself, and the BPM's fence
    certificate   evidence for a τ
    design_effect what labels in groups, or of unequal weight, are worth
    calibration   τ with an exact certificate
    monitoring    sequential watch over precision, anytime-valid bounds
    guardrail     what one reading means
    stage         the stage machine
    wire          messages between processes
"""
