"""Fitting the model to measured rows, the shipped ones and an operator's own."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from clusters.planning import __main__ as command_line
from clusters.planning.performance.calibrated import Calibrated, Calibration, kind_of, shipped_calibration
from clusters.planning.performance.calibration import band, fit, residuals
from clusters.planning.performance.fitting import PRIORS
from clusters.planning.performance.measurements import (
    Measurement,
    MeasurementError,
    read_measurements,
)
from clusters.planning.performance.roofline import Roofline

DATA = importlib.resources.files("clusters.planning").joinpath("data/measured_serving.csv")
HEADER, *LINES = DATA.read_text("utf-8").splitlines()
ROW = "vllm,1.0,Qwen/Qwen3-32B,h100_sxm,fp8,2,1,1,1,1024,512,16,150.0,14.0,own"


@pytest.fixture(scope="module")
def dense() -> list[Measurement]:
    rows = read_measurements([HEADER, *LINES])
    return [row for row in rows if kind_of(row.shape.architecture) == "dense"]


def errors(off: np.ndarray) -> np.ndarray:
    return np.abs(np.expm1(-off))


def test_the_shipped_calibration_is_of_the_shipped_rows(dense: list[Measurement]) -> None:
    assert shipped_calibration().rows == len(read_measurements([HEADER, *LINES]))
    itl, ttft = residuals(shipped_calibration(), dense)
    assert errors(itl).mean() < 0.1
    assert np.median(errors(ttft)) < 0.35


@pytest.mark.parametrize("gpu", ["h100_sxm", "h200_sxm", "b200_sxm"])
def test_a_gpu_type_that_took_no_part_is_foretold(dense: list[Measurement], gpu: str) -> None:
    unseen = [row for row in dense if row.shape.gpu.name == gpu]
    model = fit([row for row in dense if row.shape.gpu.name != gpu], kinds=("dense",))
    itl, _ = residuals(model, unseen)
    assert errors(itl).mean() < 0.12
    plain = [
        abs(
            Roofline().itl_ms(
                row.shape,
                concurrency=row.concurrency,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
            )
            / row.itl_ms
            - 1
        )
        for row in unseen
    ]
    assert errors(itl).mean() < np.mean(plain)


def test_constants_stay_in_their_bounds_and_what_is_unseen_gets_the_pooled_ones(
    dense: list[Measurement],
) -> None:
    model = fit(dense, kinds=("dense",))
    for name, fitted in model.constants["dense"].items():
        assert PRIORS[name].low <= fitted.value <= PRIORS[name].high
    row = next(row for row in dense if row.shape.gpu.name == "h100_sxm")
    unlike = dataclasses.replace(
        row.shape,
        gpu=dataclasses.replace(row.shape.gpu, name="h100_next"),
        architecture=row.shape.architecture,
    )
    load = {"concurrency": 16, "input_tokens": 1000, "output_tokens": 500}
    ratio = Calibrated(model).itl_ms(unlike, **load) / Calibrated(model).itl_ms(row.shape, **load)
    assert 0.8 < ratio < 1.25


def test_an_engine_that_is_slower_by_measurement_is_slower_in_forecast(dense: list[Measurement]) -> None:
    slow = [
        dataclasses.replace(
            row,
            shape=dataclasses.replace(row.shape, engine="own"),
            itl_ms=1.4 * row.itl_ms,
            ttft_ms=1.4 * row.ttft_ms,
        )
        for row in dense
        if row.shape.engine == "vllm"
    ]
    model = Calibrated(fit(dense + slow, kinds=("dense",)))
    shape = slow[0].shape
    load = {"concurrency": 16, "input_tokens": 1000, "output_tokens": 500}
    assert model.knows(shape)
    assert not Calibrated().knows(shape)
    assert model.itl_ms(shape, **load) > 1.2 * model.itl_ms(dataclasses.replace(shape, engine="vllm"), **load)


def test_a_band_holds_nine_of_ten_of_every_group_alike() -> None:
    assert 0.9 <= band(list(np.linspace(-1, 1, 201)), ["one"] * 201) <= 0.96
    many, few = [0.1] * 1000, [0.5] * 10
    assert band(many + few, ["many"] * 1000 + ["few"] * 10) == 0.5


def test_rows_are_read_once_and_empty_degrees_are_1() -> None:
    row, again = ROW, ROW.replace(",1.0,", ",,").replace(",2,1,1,1,", ",2,,,,")
    (read,) = read_measurements([HEADER, row, again])
    assert (read.shape.tp, read.shape.pp, read.shape.expert_parallel, read.version) == (2, 1, 1, "1.0")
    assert read.itl_ms == 14.0
    (unlabelled,) = read_measurements([HEADER, ROW.replace(",fp8,", ",unlabelled,")])
    assert unlabelled.shape.precision == "bf16"


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        (HEADER, ROW.replace("h100_sxm", "tpu"), "line 2: unknown GPU type 'tpu'"),
        (HEADER, ROW.replace("Qwen/Qwen3-32B", "gpt-4"), "unknown model 'gpt-4'"),
        (HEADER, ROW.replace("fp8", "fp3"), "fp3"),
        (HEADER, ROW.replace("150.0", "-1"), "ttft_ms must be above 0"),
        (HEADER, ROW.replace("14.0", "nan"), "tpot_ms must be above 0"),
        (HEADER, ROW.replace("14.0", "fast"), "fast"),
        (HEADER, "vllm,1.0", "line 2"),
        (HEADER.replace("tpot_ms", "itl"), ROW, "column 'tpot_ms' is missing"),
    ],
)
def test_rows_that_cannot_be_used_say_why(header: str, row: str, words: str) -> None:
    with pytest.raises(MeasurementError, match=words):
        read_measurements([header, row])


def test_operators_calibrate_on_their_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.csv"
    kept = [line for line in LINES if "Llama-3.1-70B" in line and ",1024,1024," in line]
    own.write_text("\n".join([HEADER, *kept, ROW]))
    assert command_line.main(["calibrate", str(own)]) == 0
    calibration = msgspec.json.decode(capsys.readouterr().out, type=Calibration)
    assert calibration.rows == len(kept) + 1
    bands = calibration.itl_bands["dense"]
    assert 0 < bands.known <= bands.new_gpu <= bands.new_both < math.inf
    (row,) = read_measurements([HEADER, ROW])
    assert Calibrated(calibration).confidence(row.shape).itl_error == bands.known


def test_one_gpu_type_and_one_model_leave_bands_untested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("\n".join([HEADER, *[line for line in LINES if "Llama-3.1-70B,h100" in line]]))
    assert command_line.main(["calibrate", str(own)]) == 0
    calibration = msgspec.json.decode(capsys.readouterr().out, type=Calibration)
    assert calibration.itl_bands["dense"].new_gpu == 1.0
    assert calibration.itl_bands["dense"].known < 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "No such file"), (f"{HEADER}\n{ROW}\n", "too few"), ("a,b\n1,2\n", "column"), ("", "too few")],
)
def test_files_that_cannot_be_calibrated_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    own = tmp_path / "own.csv"
    if text is not None:
        own.write_text(text)
    assert command_line.main(["calibrate", str(own)]) == 2
    assert words in capsys.readouterr().err
    assert command_line.main(["calibrate", "--help"]) == 2
