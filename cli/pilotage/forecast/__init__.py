"""`pilotage forecast`: what could be certified on someone's own history, before any Kubernetes.

measure     a policy learned on the older sessions, judged on the newer ones
targets     which precision is within reach
projection  what more sessions would bring
charts, page  the result
"""
