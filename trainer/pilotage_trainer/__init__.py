"""From recorded sessions to a certified pair, in the order data meets the modules.

sources, records_file, dataset   exports: NDJSON, Parquet, a gateway, formats that packages bring
window                           which sessions a Job may see, split by time
features, schema                 a prompt read back into a situation; what a request allows
counts, policy, critic           the count models; fitted in policy_training, critic_training, logistic
neural/                          transformers: everything that imports torch, but for launch
labels, comparison               what operators accept: live verdicts and replay; two scores compared
artefact, models, backend        a pair on disk, checked by digest; loaded, whatever it was made by
serve, vllm, answers             the pair behind vLLM's interface (`pilotage-serve`)
scorers, held_out                the served pair's scores on held-out labels; certificates
feedback/                        τ from anyone's table of labels
measures, evaluation*            what a policy and a critic are worth: figures, slices, page; zero_shot, star_benchmark
*_job, *_command, launch, main   the Jobs and commands (`pilotage-train …`), one process or several
config, results, failures        what a Job is told, what it says, how it ends
"""

import os

# Before numpy or torch are loaded. Threads that wait for each other by spinning fall to a quarter of their speed beside
# one busy neighbour (measured: 773 tokens a second to 205).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
