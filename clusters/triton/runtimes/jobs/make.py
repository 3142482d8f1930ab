"""Runs in a job: lets a command write a folder and gives it its name when all went well.

``python3 -c make.py OUTPUT COMMAND...``; ``{output}`` in COMMAND is where it is to write.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CALIBRATION = Path("/tmp/calibration")  # noqa: S108 - the container's own
# Any plain prose does for the ranges of activations; a model's own data, in the checkpoint's folder
# `calibration`, does better.
PROSE = (
    "The river had risen in the night, and by morning the lower fields lay under a hand of brown water.",
    "To sort a list in place, compare neighbours and swap them until a pass makes no swap.",
    "The committee met on Tuesday to discuss the budget, the repair of the roof and the new timetable.",
    "def area(width, height):\n    return width * height\n",
    "Les trains du matin partent toutes les vingt minutes, sauf le dimanche.",
    "Wasser gefriert bei null Grad Celsius und siedet bei hundert Grad.",
    "Question: what is the sum of 17 and 25? Answer: 17 + 25 = 42.",
    "Dear Ms Okafor, thank you for your letter of the third; we enclose the documents you asked for.",
)


def main(output: Path, command: list[str]) -> int:
    if output.is_dir():
        print(f"{output.name} is there already")
        return 0
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    write_calibration(command)
    done = subprocess.run([part.replace("{output}", str(partial)) for part in command], check=False)
    if done.returncode == 0:
        os.rename(partial, output)
        print(f"{output.name} is made")
    else:
        shutil.rmtree(partial, ignore_errors=True)
    return done.returncode


def write_calibration(command: list[str]) -> None:
    """Lay out the texts that a quantizing command calibrates on."""
    if "--calib_dataset" not in command:
        return
    own = Path(command[command.index("--model_dir") + 1]) / "calibration"
    if own.is_dir():
        command[command.index("--calib_dataset") + 1] = str(own)
        return
    CALIBRATION.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"text": "\n".join(PROSE[turn:] + PROSE[:turn])}) for turn in range(len(PROSE)))
    (CALIBRATION / "train.jsonl").write_text("\n".join([*lines] * 16) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
