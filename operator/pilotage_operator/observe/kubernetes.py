"""Kubernetes objects read into facts: Jobs with their pods' last words, InferenceServices. No request is made here."""

from pilotage_core.wire import JobResult, read_result
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import read_time
from pilotage_operator.facts import EndpointFact, JobFact, JobState
from pilotage_operator.manifests.job import QUEUE_LABEL


def read_job_state(job: Object) -> JobState:
    """What a Job's conditions say."""
    conditions = {c["type"]: c["status"] for c in job.get("status", {}).get("conditions", [])}
    if conditions.get("Complete") == "True" or conditions.get("SuccessCriteriaMet") == "True":
        return JobState.SUCCEEDED
    if conditions.get("Failed") == "True":
        return JobState.FAILED
    return JobState.RUNNING


def read_job(job: Object, pods: list[Object]) -> JobFact:
    """A finished Job with the result its last pod left as termination message; `pods` are the Job's, in any order."""
    state = read_job_state(job)
    if state is JobState.RUNNING:
        return JobFact(state, reason=_explain_suspension(job))
    own = [pod for pod in pods if _is_own(pod, job)]
    ended = sorted((end for pod in own for end in _find_ends(pod)), key=lambda end: str(end.get("finishedAt", "")))
    result = _read_result(ended[-1].get("message")) if ended else None
    if state is JobState.SUCCEEDED:
        reason = "" if result else "its termination message cannot be read"
        return JobFact(state, result, 0, reason)
    code = ended[-1].get("exitCode") if ended else None
    told = result.reason if result else (str(ended[-1].get("message", ""))[-300:] if ended else "")
    failed = [c for c in job["status"]["conditions"] if c["type"] == "Failed"]
    return JobFact(state, None, code, told or failed[0].get("message", "") or failed[0].get("reason", ""))


def read_endpoint(service: Object) -> EndpointFact:
    """Ready: the Ready condition, and, where it is reported, the model loaded. The URL is the predictor's Service."""
    metadata, status = service["metadata"], service.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {"status": "False", "message": "not reconciled yet"})
    loaded = status.get("modelStatus", {}).get("states", {}).get("activeModelState", "Loaded")
    is_ready = ready["status"] == "True" and loaded == "Loaded"
    url = f"http://{metadata['name']}-predictor.{metadata['namespace']}.svc.cluster.local"
    reason = "" if is_ready else ready.get("message") or ready.get("reason") or f"model {loaded}"
    return EndpointFact(is_ready, url, reason, read_time(ready.get("lastTransitionTime", "")))


def needs_pod(job: Object) -> bool:
    """Whether a Job may run and has no pod: it was just made, or its pods are refused."""
    status = job.get("status", {})
    return not job.get("spec", {}).get("suspend") and not status.get("active") and bool(status.get("startTime"))


def read_refusal(events: list[Object]) -> JobFact | None:
    """What the newest of a Job's FailedCreate events says; None where there is none."""
    told = sorted((str(event.get("lastTimestamp") or ""), str(event.get("message") or "")) for event in events)
    return JobFact(JobState.REFUSED, reason=f"the Job is refused a pod: {told[-1][1][:300]}") if told else None


def _explain_suspension(job: Object) -> str:
    """What a Job that may not start yet waits for; empty for one that may."""
    if not job.get("spec", {}).get("suspend"):
        return ""
    queue = job["metadata"].get("labels", {}).get(QUEUE_LABEL)
    return f"the Job waits in queue {queue}" if queue else "the Job is suspended"


def _is_own(pod: Object, job: Object) -> bool:
    """Whether the Job made this pod: a label says so of any pod, its owner's uid only of these."""
    owners = pod.get("metadata", {}).get("ownerReferences") or []
    return any(owner.get("uid") == job["metadata"].get("uid") and owner.get("controller") for owner in owners)


def _find_ends(pod: Object) -> list[Object]:
    containers = pod.get("status", {}).get("containerStatuses", [])
    return [c["state"]["terminated"] for c in containers if "terminated" in c.get("state", {})]


def _read_result(message: str | None) -> JobResult | None:
    if not message:
        return None
    try:
        return read_result(message.encode())
    except ValueError:  # msgspec's errors are ValueErrors
        return None
