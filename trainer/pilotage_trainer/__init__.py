"""From recorded sessions to a certified pair, in the order data meets the modules.

sessions/     exports read (NDJSON, Parquet, a gateway, formats that packages bring), steps, labels
window        which sessions a Job may see, split by time
backends/     interface, and what implements it: counts/ and transformers/ (everything that imports torch); open: which
              there are; vllm: the wire they answer on
measures/     accuracy, ranking, one score against another, slices
certify/      the served pair's scores on held-out labels, certificates; table/: τ from anyone's table of labels
evaluation/   what a policy and a critic are worth: figures, page, STAR, a general model, a history replayed
ablations/    what one choice in training is worth
privacy/      personal data that only the words around it tell: a tagger, how it is trained
serving/      the pair behind vLLM's interface (`pilotage-serve`)
commands/, main     `pilotage-train …`, one command a file; launch: one process or several
artefact, config, results, failures, retry   a pair on disk; what a Job is told, what it says, how it ends
public        what other packages may import
"""

import os

# Before numpy or torch are loaded. Threads that wait for each other by spinning fall to a quarter of their speed beside
# one busy neighbour (measured: 773 tokens a second to 205).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
