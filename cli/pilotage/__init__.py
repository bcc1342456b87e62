"""The command line: status and explanations, the demo, the report.

What each module holds, in the order a user meets it:
main.py      the commands; offline.py: those about files alone
status.py    process clusters as a table
explain.py   one process cluster, or one decision of the gate, in plain words
place.py     where a command looks: Kubernetes, a local run, records; services.py asks gateway and controller
demo/        the driver of the main job: processes or Kubernetes, timeline, faults, collecting the records
stop.py      every replica of the gateway stopped; diff.py: what manifests would do
screen.py    how a page is read; screen_checks.py: what schemas miss, what a release changed
run.py       the folder of one run: what is stored in it and how it is read
replay.py    what another τ would have done, from the records
report/      figures from the records, and the page; its markup is in templates/
anonymise.py, experiment/   texts masked; arms compared
forecast/    what a history promises, what it takes, and the page
"""
