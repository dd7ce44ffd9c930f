"""Write the trainings of a run as the array script of a SLURM cluster."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.folders import DatasetFolder, RunRecords
from configs.progress import Progress
from planners.options import PlanningOptions
from trainers.pipeline.options import RunOptions
from trainers.pipeline.run import load_schedule, prepare, save_schedule, wishes_of
from trainers.pipeline.schedule import Training, make_schedule


def write_jobs(
    dataset: Path, work: Path, options: RunOptions, planning: PlanningOptions | None, again: Sequence[str], progress: Progress
) -> str:
    """Plan and preprocess a dataset, write the schedule, and return the array script of its trainings.

    Raises:
        InputError: as `run_dataset`; or the time is limited, but this machine cannot tell the speed of another; or a network refines the
            segmentation of another.
    """
    if options.hours is not None:
        problem = "the speed of the cluster's machines cannot be measured here"
        raise InputError(Fault("--hours and --print-jobs", problem, "Give --preset, or --set epochs=N"))
    folder = prepare(dataset, work, options, planning, progress)
    schedule = load_schedule(folder, options, planning)
    if schedule is None:
        plan, wishes = wishes_of(folder, options, on_gpu=True)
        schedule = make_schedule(wishes, options.asked(planning), plan, speeds={})
        problem = "the tasks of an array start together, and it needs all folds of the first network of its cascade"
        remedy = "Leave its configuration out, and train it with se_train after the others"
        raise_faults(Fault(str(training), problem, remedy) for training in schedule.trainings if training.refines)
        save_schedule(folder, schedule)
    return array_script(folder, schedule.trainings, again)


def _command(folder: DatasetFolder, training: Training) -> str:
    """Return the command line of se_train that starts a training of a run, or goes on with it."""
    words = ["se_train", folder.path.name, "--work", str(folder.path.resolve().parent), "--network", training.network]
    words += ["--configuration", training.configuration, "--fold", str(training.fold)]
    return shlex.join([*words, "--preset", str(RunRecords(folder.path).settings.resolve()), "--resume"])


_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=se_run_{name}
#SBATCH --array=0-{last}
#SBATCH --gres=gpu:1
#SBATCH --signal=B:USR1@120 --requeue
# Change the lines above for your cluster, and add its time limit. Submit the script, and complete the run after it, with
#   job=$(sbatch --parsable FILE); sbatch --dependency=afterany:$job --wrap {again}
cd {here} || exit 1
case "$SLURM_ARRAY_TASK_ID" in
{tasks}
  *) echo "there is no task $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;
esac
trap '[ -z "$!" ] || kill -USR1 $!' USR1 # before the time limit: the training saves its state
"${{words[@]}}" &
training=$!
wait $training
code=$?
while kill -0 $training 2>/dev/null; do wait $training; code=$?; done
[ $code -eq 138 ] && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
exit $code
"""


def array_script(folder: DatasetFolder, trainings: Sequence[Training], again: Sequence[str]) -> str:
    """Return a bash script for `sbatch`, with one task of the array for each training.

    Args:
        folder: planned dataset, under a path that all nodes see.
        trainings: trainings of the run.
        again: command line of se_run that completes the run after them.
    """
    tasks = [f"  {number}) words=({_command(folder, training)}) ;;" for number, training in enumerate(trainings)]
    return _SCRIPT.format(
        name=folder.path.name,
        last=len(trainings) - 1,
        again=shlex.quote(shlex.join(again)),
        here=shlex.quote(str(Path.cwd())),
        tasks="\n".join(tasks),
    )
