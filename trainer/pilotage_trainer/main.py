"""`pilotage-train`: one command a phase, each ending with an exit code.

Jobs (policy, critic, preference; calibrate and evaluate with --revision) write a JobResult and an artefact.

Metrics of a JobResult: policy: sessions, points, tool_accuracy, action_accuracy, … (evaluation.py); critic: labels,
accept_rate, auroc, confidence_auroc, …; calibrate: n:<stratum>, accept_rate:<stratum>, coverage:<stratum>.
Exit codes: 0 done (`passed` may be false), 2 usage, 3 too little data, 4 one class only, 5 export or model server
unreachable, 6 artefact damaged, 7 disk, 8 a loss that is no number, 9 tokenizer splits accept or reject, 10 base model
cannot be loaded, 11 a worker died (failures.py), 143 asked to stop (SIGTERM).
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_core.training import PreferenceLoss
from pilotage_core.wire import JobResult
from pilotage_trainer.ablate_command import ablate
from pilotage_trainer.config import JobConfig, read_config
from pilotage_trainer.dataset_command import dataset
from pilotage_trainer.evaluation_command import (
    SAMPLE,
    CriticFolder,
    Form,
    Likeness,
    ModelName,
    PageFile,
    PolicyFolder,
    Sample,
    SessionsRequest,
    StarFile,
    ZeroShotUrl,
    run_sessions_command,
    run_star_command,
)
from pilotage_trainer.evaluation_command import AsJson as EvaluationAsJson
from pilotage_trainer.evaluation_command import choose_form as choose_evaluation
from pilotage_trainer.failures import explain_error, find_exit_code
from pilotage_trainer.feedback.command import (
    AsJson,
    Delta,
    Feedback,
    InForceFile,
    MonitorFrom,
    Strata,
    Target,
    choose_form,
    run_feedback,
)
from pilotage_trainer.forms import end_with_exit_code
from pilotage_trainer.results import TERMINATION_LOG, require_writable, tell, write_result
from pilotage_trainer.window import Window

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


class Backend(StrEnum):
    """What learns."""

    COUNTS = "counts"
    TRANSFORMERS = "transformers"


Export = Annotated[
    str, typer.Option(help="a gateway's address, NDJSON (.gz too), Parquet or a folder of it, or star:PATH")
]
ProcessCluster = Annotated[str, typer.Option(help="namespace/name")]
Revision = Annotated[str, typer.Option(help="r1, r2, …")]
Out = Annotated[Path, typer.Option(help="the artefacts' folder")]
Since = Annotated[str, typer.Option(help="sessions closed from this time on (RFC 3339)")]
Until = Annotated[str, typer.Option(help="sessions closed before this time")]
FreshAfter = Annotated[str, typer.Option(help="the time of the rollback, after one")]
StartFrom = Annotated[str, typer.Option(help="an earlier revision: a transformer goes on from its weights")]
HeldOutAfter = Annotated[str, typer.Option(help="sessions closed after this time are held out")]
HeldOutShare = Annotated[float, typer.Option(help="newest share of sessions to hold out")]
HeldOutShareElse = Annotated[
    float, typer.Option(help="newest share of sessions to hold out, if --held-out-after is not given")
]
Config = Annotated[str, typer.Option(help="the Job's configuration: JSON, or a file")]
Result = Annotated[Path | None, typer.Option(help="where the result goes as well [default: the termination log]")]
BackendOption = Annotated[Backend, typer.Option(help="what learns")]
BackendTold = Annotated[Backend, typer.Option(help="told by every Job; not used here", show_default=False)]
Dataset = Annotated[Path | None, typer.Option(help="a folder of `dataset` [default: one is made of the sessions]")]
Processes = Annotated[int, typer.Option(help="that train together on this machine, one a GPU", min=1)]
TimeBudget = Annotated[
    int, typer.Option(help="the schedule ends within it [default: the configuration's]", min=0, show_default=False)
]


app.command()(dataset)
app.command()(ablate)


@app.command()
def pretrain(
    text: Annotated[list[Path], typer.Option(help="a plain text file; give it several times for several")],
    out: Annotated[Path, typer.Option(help="the folder of the model that comes out: a baseModel")],
    max_tokens: Annotated[int, typer.Option(help="of a document and of a row", min=16)] = 4096,
    processes: Processes = 1,
    config: Config = "",
) -> None:
    """Go on pretraining the base model on plain text of the domain, before the policy (optional)."""
    from pilotage_trainer.launch import launch_processes

    launch_processes(processes)
    with end_with_exit_code():
        from pilotage_trainer.neural.pretrain_job import run_pretrain

        run_pretrain(text, out, read_config(config), max_tokens)
    tell(f"{out} may be a baseModel now")


@app.command()
def policy(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Revision,
    out: Out,
    since: Since = "",
    until: Until = "",
    fresh_after: FreshAfter = "",
    start_from: StartFrom = "",
    held_out_share: HeldOutShare = 0.0,
    config: Config = "",
    result: Result = None,
    backend: BackendOption = Backend.COUNTS,
    dataset: Dataset = None,
    processes: Processes = 1,
    time_budget_seconds: TimeBudget = 0,
) -> None:
    """Learn what comes next from what operators did."""
    job: Callable[[Window, JobConfig], JobResult]
    if backend is Backend.TRANSFORMERS:
        from pilotage_trainer.launch import launch_processes

        launch_processes(processes)
        from pilotage_trainer.neural.policy_job import run_policy as run_transformer

        chosen = partial(run_transformer, dataset=dataset, start_from=start_from)
        job = partial(_within_budget, chosen, time_budget_seconds)
    else:
        given = {"--dataset": dataset, "--start-from": start_from, "--time-budget-seconds": time_budget_seconds}
        _require_none_given(given | {"--processes": processes - 1})
        from pilotage_trainer.policy_job import run_policy  # here as below: each waits for its own imports alone

        job = run_policy
    window = partial(
        Window, export, process_cluster, revision, out, since, until, fresh_after, held_out_share=held_out_share
    )
    run_job("policy", window, job, config, result)


@app.command()
def critic(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Revision,
    out: Out,
    since: Since = "",
    until: Until = "",
    fresh_after: FreshAfter = "",
    held_out_after: HeldOutAfter = "",
    held_out_share: HeldOutShareElse = 0.0,
    config: Config = "",
    result: Result = None,
    backend: BackendOption = Backend.COUNTS,
    processes: Processes = 1,
) -> None:
    """Learn which proposals of the revision's policy operators accept."""
    if backend is Backend.TRANSFORMERS:
        from pilotage_trainer.launch import launch_processes

        launch_processes(processes)
        from pilotage_trainer.neural.critic_job import run_critic
    else:
        _require_none_given({"--processes": processes - 1})
        from pilotage_trainer.critic_job import run_critic

    times = (since, until, fresh_after, held_out_after)
    window = partial(Window, export, process_cluster, revision, out, *times, held_out_share)
    run_job("critic", window, run_critic, config, result)


@app.command()
def preference(
    export: Export,
    process_cluster: ProcessCluster,
    revision: Annotated[str, typer.Option(help="the new policy's: r1-dpo, …")],
    out: Out,
    policy: Annotated[Path, typer.Option(help="the folder of the policy that is tuned, and the reference")],
    loss: Annotated[PreferenceLoss | None, typer.Option(help="instead of the configuration's")] = None,
    replayed: Annotated[
        bool, typer.Option(help="also learn from its own proposals on sessions it has not seen")
    ] = False,
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    held_out_share: HeldOutShareElse = 0.0,
    config: Config = "",
    result: Result = None,
) -> None:
    """Tune a transformer on proposals that operators overrode (an ablation): DPO, APO-zero or APO-down."""
    from pilotage_trainer.neural.preference_job import run_preference

    def job(window: Window, settings: JobConfig) -> JobResult:
        wanted = settings.preference.model_copy(update={"loss": loss or settings.preference.loss})
        return run_preference(window, msgspec.structs.replace(settings, preference=wanted), policy, replayed)

    times = (since, until, "", held_out_after)
    run_job(
        "policy", partial(Window, export, process_cluster, revision, out, *times, held_out_share), job, config, result
    )


@app.command()
def calibrate(
    context: typer.Context,
    export: Export = "",
    process_cluster: ProcessCluster = "",
    revision: Revision = "",
    out: Out = Path(),
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    policy_url: Annotated[str, typer.Option(help="where the revision's policy is served")] = "",
    critic_url: Annotated[str, typer.Option(help="where the revision's critic is served")] = "",
    local: Annotated[bool, typer.Option(help="score in this process: a quick look, not for certificates")] = False,
    config: Config = "",
    result: Result = None,
    backend: BackendTold = Backend.COUNTS,
    feedback: Feedback = None,
    target: Target = None,
    delta: Delta = 0.05,
    strata: Strata = 0,
    monitor_from: MonitorFrom = "",
    in_force: InForceFile = None,
    as_json: AsJson = False,
) -> None:
    """Certify a τ for each stratum: on held-out sessions with the served models' scores, or on a table of labels.

    The Job needs --export, --process-cluster, --revision and --out. A table (--feedback alone) has the columns
    process_cluster, stratum, score in [0, 1], accepted (an unedited accept), propensity (the chance in (0, 1] with
    which the proposal was looked at: a label weighs 1 / propensity), operator, session_id and at. Labels without
    operator count as one more operator, the worst case; those without session_id as one session of their operator.
    Anything else that is empty or wrong stops the run and is named by its row. A time without offset is UTC. A column
    least_propensity may say the smallest propensity in force at the time: actions looked at so seldom that no label
    shows them are counted then. Without it the monitor takes the smallest of the gate's labels for all times.
    """
    if choose_form(context) and feedback is not None:
        run_feedback(feedback, target or [], delta, strata, monitor_from, in_force, as_json)
        return

    from pilotage_trainer.calibration_job import run_calibrate

    def job(window: Window, settings: JobConfig) -> JobResult:
        if local == bool(policy_url and critic_url):
            raise InvalidInputError(
                "scores come from two served models, or from this process",
                where="options",
                remedy="give --policy-url and --critic-url, or --local",
            )
        urls = None if local else (policy_url, critic_url)
        return run_calibrate(window, settings, urls, datetime.now(UTC).isoformat())

    window = partial(Window, export, process_cluster, revision, out, since, until, held_out_after=held_out_after)
    run_job("calibration", window, job, config, result)


@app.command()
def evaluate(
    context: typer.Context,
    export: Export = "",
    process_cluster: ProcessCluster = "",
    revision: Revision = "",
    out: Out = Path(),
    since: Since = "",
    until: Until = "",
    held_out_after: HeldOutAfter = "",
    config: Config = "",
    result: Result = None,
    star: StarFile = None,
    policy: PolicyFolder = None,
    critic: CriticFolder = None,
    report: PageFile = None,
    likeness: Likeness = 0.8,
    zero_shot: ZeroShotUrl = "",
    model: ModelName = "",
    sample: Sample = SAMPLE,
    as_json: EvaluationAsJson = False,
) -> None:
    """Measure a revision on sessions it has not seen, a policy on any sessions, or on STAR's published measure.

    The Job needs --export, --process-cluster, --revision and --out. A policy needs --policy, and either --export
    (accuracies, confidence, --critic, --zero-shot, slices; --report for a page) or --star (the published measure).
    """
    form = choose_evaluation(context)
    if form is Form.STAR and star and policy:
        run_star_command(star, policy, as_json)
        return
    if form is Form.SESSIONS and policy:
        request = SessionsRequest(
            export, policy, process_cluster, since, until, held_out_after, config, critic,
            likeness, zero_shot, model, sample,
        )  # fmt: skip
        run_sessions_command(request, report, as_json)
        return

    from pilotage_trainer.evaluation_job import run_evaluate

    window = partial(Window, export, process_cluster, revision, out, since, until, held_out_after=held_out_after)
    run_job("evaluation", window, run_evaluate, config, result)


def _require_none_given(options: Mapping[str, object]) -> None:
    """Ends with a usage error where one of `options`, which only transformers have, was given to counts."""
    if wrong := [option for option, value in options.items() if value]:
        raise typer.BadParameter("goes with --backend transformers", param_hint=wrong[0])


def _within_budget(
    job: Callable[[Window, JobConfig], JobResult], seconds: int, window: Window, config: JobConfig
) -> JobResult:
    """`job` with a policy's training in `seconds`, where that is given."""
    if seconds:
        policy = config.transformers.policy.model_copy(update={"time_budget_seconds": seconds})
        settings = config.transformers.model_copy(update={"policy": policy})
        config = msgspec.structs.replace(config, transformers=settings)
    return job(window, config)


PHASES = {"policy": "policy", "critic": "critic", "calibration": "calibrate", "evaluation": "evaluate"}
"""The phase by the folder its artefact goes to."""


def run_job(
    folder: str,
    build_window: Callable[[], Window],
    job: Callable[[Window, JobConfig], JobResult],
    config: str,
    wanted: Path | None,
) -> None:
    """Run `job` on its window, write its result, and exit with the code its outcome has."""
    if "RANK" not in os.environ:  # one of several may be waiting for another where no handler runs: it dies of it
        signal.signal(signal.SIGTERM, _leave)
    window: Window | None = None
    try:
        window = build_window()
        settings = read_config(config)
        if wanted is not None and wanted != TERMINATION_LOG:
            require_writable(wanted)
        result = job(window, settings)
        write_result(result, window.folder(folder), wanted)
    except (PilotageError, OSError) as error:
        tell(explain_error(error))
        code = find_exit_code(error)
        if window is not None:
            _report_failure(PHASES[folder], window, folder, explain_error(error), wanted)
        raise typer.Exit(code) from error
    tell(f"{result.phase} {result.revision}: {'passed' if result.passed else 'not passed'}: {result.reason}")
    typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside training, where there is nothing to save: the first process of a container would ignore it."""
    sys.exit(128 + number)


def _report_failure(phase: str, window: Window, folder: str, reason: str, wanted: Path | None) -> None:
    """Leave a result that says why, where that can be written; the exit code says it in any case."""
    failed = JobResult(phase=phase, revision=window.revision, passed=False, reason=reason)
    try:
        write_result(failed, window.folder(folder), wanted)
    except OSError as error:
        tell(f"the result cannot be written either: {explain_error(error)}")
