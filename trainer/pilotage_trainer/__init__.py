"""From recorded sessions to a certified pair, in the order data meets the modules.

window, dataset      sessions of an export, split by time, as points to learn from
features, schema     a prompt read back into a situation; what a request allows
counts, policy       what comes next: back-off counts, mixed with a log-linear part    fitted in policy_training
labels, critic       what operators accept: live verdicts and replay, P(accept)        fitted in critic_training
evaluation           accuracy and ranking on sessions not seen
artefact, models     a pair on disk, checked by digest; and loaded
vllm, serve          the pair behind vLLM's interface (`pilotage-serve`)
scorers, held_out    the served pair's scores on held-out labels; certificates
*_job, main          the Jobs (`pilotage-train policy | critic | calibrate | evaluate`)
config, results, failures    what a Job is told, what it says, how it ends
"""
