"""Spike recordings: valid files are read, and invalid ones are refused with their name."""

import pickle
import subprocess
import sys
import types
from itertools import chain
from pathlib import Path

import h5py
import neo
import numpy as np
import pandas
import pint
import pytest
import quantities
import xarray
from hypothesis import given
from hypothesis import strategies as st

from rbn_jax.cli.raster_command import _default_first_id
from rbn_jax.spikes import as_spiketimes, load_spikes

DATA = Path(__file__).parent / "data"
THREAD_FILES = [DATA / "ei_clustered-5003-0.dat", DATA / "ei_clustered-5003-1.dat"]
GDF = "3\t0.500\t\n1\t1.250\t\n4000\t7.000\t\n"
EVENTS = {"times": [0.5, 1.25, 7.0], "senders": [3, 1, 4000]}
STEP_EVENTS = {"times": [104, 111], "offsets": [0.01, 0.0], "senders": [4, 2]}
COMMENTS = "# NEST version: 3.10.0\n# RecordingBackendASCII version: 2\n"
TIMES_HEADER = COMMENTS + "sender\ttime_ms\n"
STEPS_HEADER = COMMENTS + "sender\ttime_step\ttime_offset\n"
SPIKES = np.array([[0.5, 1.25, 7.0], [3.0, 1.0, 4000.0]])


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_archive(path, **arrays):
    np.savez(path, **arrays)
    return path


def truncate(path, fraction):
    return write(path, path.read_bytes()[: int(fraction * path.stat().st_size)])


def assert_refused(path, message):
    with pytest.raises(ValueError, match=rf"{path.name}: .*{message}"):
        load_spikes(path)


def parse_dat(path):
    rows = [line.split("\t") for line in path.read_text().splitlines()[3:]]
    return [(float(time), float(sender)) for sender, time in rows]


@pytest.mark.parametrize(
    "spikes",
    [
        SPIKES,
        SPIKES.tolist(),
        {"times": SPIKES[0], "senders": SPIKES[1].astype(int)},
        {"times": SPIKES[0].tolist(), "senders": [3, 1, 4000], "offset": None},
        tuple(SPIKES),
        (EVENTS,),
        [
            {name: values[:2] for name, values in EVENTS.items()},
            {"times": [7.0], "senders": [4000]},
        ],
        pandas.DataFrame(EVENTS),
        pandas.DataFrame({**EVENTS, "population": "E"}, index=[7, 8, 9]),
        pandas.DataFrame({"sender": EVENTS["senders"], "time_ms": EVENTS["times"]}),
        pandas.DataFrame(EVENTS).convert_dtypes(),
        [pandas.DataFrame(EVENTS)[:1], pandas.DataFrame(EVENTS)[1:]],
        xarray.Dataset({name: ("spike", values) for name, values in EVENTS.items()}),
        np.ma.masked_array(SPIKES),
    ],
)
def test_arrays_and_events_of_nest_are_recordings(spikes):
    np.testing.assert_array_equal(as_spiketimes(spikes), SPIKES, strict=True)


@pytest.mark.parametrize("spikes", [[[], []], {"times": [], "senders": []}, np.empty((2, 0), int)])
def test_an_empty_recording_is_a_recording(spikes):
    assert as_spiketimes(spikes).shape == (2, 0)
    assert as_spiketimes(spikes).dtype == float


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (SPIKES.T, r"\(3, 2\)"),
        (SPIKES[0], r"\(3,\)"),
        (3.0, "must be 2xN"),
        ([["a", "b"], ["c", "d"]], "must be 2xN numbers"),
        (SPIKES.astype(complex), "complex"),
        ([[0.1, np.nan], [1, 2]], "not finite"),
        ([[0.1, 0.2], [1, np.inf]], "not finite"),
        ([1.0, 2.0], r"\(2,\)"),
        ([], "must be 2xN"),
        ((), "must be 2xN"),
        (SPIKES[::-1], "the ID 0.5 is no whole number, but all times are"),
        ({"times": [1.0], "senders": [1.5]}, "the ID 1.5 is no whole number"),
        (EVENTS["times"], "must be 2xN"),
        ([EVENTS, [1.0, 2.0]], "of one kind"),
        ([EVENTS, {"times": [1.0]}], r"spikes\[1\] lacks senders"),
        ([EVENTS, {"times": [1.0], "senders": []}], r"spikes\[1\]: times .* differ in shape"),
        ({"times": ["a"], "senders": [1]}, "times is an array of <U1"),
        ({"times": np.array(["2020-01-01"], "M8[s]"), "senders": [1]}, "datetime64"),
        (pandas.DataFrame(SPIKES), "lacks times and senders"),
        # BMTK's table of spikes does not say the unit of its times
        (pandas.DataFrame({"timestamps": [1.0], "node_ids": [1]}), "has node_ids, timestamps"),
        ({"times": [1.0]}, "lacks senders"),
        ({"times": [1.0, 2.0], "senders": [1]}, "differ in shape"),
        ({"times": [[1.0]], "senders": [[1]]}, "shape"),
    ],
)
def test_an_invalid_recording_is_refused(spikes, message):
    with pytest.raises(ValueError, match=message):
        as_spiketimes(spikes)


def test_npy_files_hold_the_array(tmp_path):
    np.save(tmp_path / "a.npy", SPIKES)
    np.testing.assert_array_equal(load_spikes(tmp_path / "a.npy"), SPIKES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"spiketimes": SPIKES},
        {"spiketimes": SPIKES, "version": np.array(3)},
        {"anything": SPIKES},
        {"times": SPIKES[0], "senders": SPIKES[1].astype(int)},
    ],
)
def test_npz_files_hold_spiketimes_or_times_and_senders(tmp_path, arrays):
    path = write_archive(tmp_path / "a.npz", **arrays)
    np.testing.assert_array_equal(load_spikes(str(path)), SPIKES)


def test_every_spike_of_the_recorded_npz_is_read():
    with np.load(DATA / "ei_clustered_spikes.npz") as file:
        expected = file["spiketimes"]
    spikes = load_spikes(DATA / "ei_clustered_spikes.npz")
    assert spikes.shape == (2, 12391)
    assert sorted(zip(*spikes, strict=True)) == sorted(zip(*expected, strict=True))


@pytest.mark.parametrize("paths", [THREAD_FILES[:1], THREAD_FILES[1:], THREAD_FILES])
def test_the_files_of_all_threads_are_merged_in_order_of_time(paths):
    spikes = load_spikes(paths)
    assert np.all(np.diff(spikes[0]) >= 0)
    assert sorted(map(tuple, spikes.T)) == sorted(chain(*map(parse_dat, paths)))


def test_spikes_of_one_file_are_sorted_by_time(tmp_path):
    # NEST writes spikes out of order if the delay is longer than the resolution
    path = write(tmp_path / "a.dat", TIMES_HEADER + "7\t2.500\n8\t1.250\n")
    np.testing.assert_array_equal(load_spikes(path), [[1.25, 2.5], [8, 7]])


def test_times_in_steps_become_milliseconds(tmp_path):
    path = write(tmp_path / "a.dat", STEPS_HEADER + "2\t28\t0.000\n3\t31\t0.025\n")
    spikes = load_spikes(path, resolution=0.1)
    np.testing.assert_allclose(spikes, [[2.8, 3.075], [2, 3]], rtol=1e-15)


def test_times_in_steps_need_the_resolution(tmp_path):
    assert_refused(write(tmp_path / "a.dat", STEPS_HEADER + "2\t28\t0.000\n"), "resolution")


@pytest.mark.parametrize("header", [TIMES_HEADER, STEPS_HEADER, TIMES_HEADER + "\n"])
def test_a_file_without_spikes_is_an_empty_recording(tmp_path, header):
    empty = write(tmp_path / "a.dat", header)
    assert load_spikes(empty, resolution=0.1).shape == (2, 0)
    np.testing.assert_array_equal(
        load_spikes([empty, THREAD_FILES[1]]), load_spikes(THREAD_FILES[1])
    )


@pytest.mark.parametrize(
    ("paths", "resolution"),
    [(THREAD_FILES, 0), (THREAD_FILES, -1), (THREAD_FILES, np.nan), ([], 1)],
)
def test_a_list_of_no_files_or_an_invalid_resolution_is_refused(paths, resolution):
    with pytest.raises(ValueError, match=r"no spike file|resolution"):
        load_spikes(paths, resolution=resolution)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".PKL"])
def test_a_pickle_is_refused_with_the_reason(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", pickle.dumps(SPIKES))
    assert_refused(path, "is a pickle, which can run any program")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_of_objects_is_refused(tmp_path, suffix):
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", SPIKES.astype(object))
    assert_refused(tmp_path / f"a{suffix}", "is a pickle")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".dat"])
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_spikes(tmp_path / f"nowhere{suffix}")


@pytest.mark.parametrize("fraction", [0, 1e-3, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_truncated_file_is_named(tmp_path, suffix, fraction):
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", np.ones((2, 500)))
    assert_refused(
        truncate(tmp_path / f"a{suffix}", fraction), rf"no readable \{suffix} spike file"
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_damaged_in_the_middle_is_named(tmp_path, save):
    save(tmp_path / "a.npz", np.random.default_rng(1).random((2, 500)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[70:90] = b"\xff" * 20
    assert_refused(write(tmp_path / "a.npz", bytes(content)), "no readable")


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_a_file_with_any_damaged_byte_is_named_or_read(tmp_path, save):
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, np.ones((2, 3)))
    content = path.read_bytes()
    messages = []
    for i, byte in enumerate(content):
        for damaged_byte in (byte ^ 0xFF, byte ^ 0x01, 0x20):
            path.write_bytes(content[:i] + bytes([damaged_byte]) + content[i + 1 :])
            try:
                load_spikes(path)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > len(content) / 2
    assert all(message.startswith(str(path)) for message in messages)


@pytest.mark.parametrize("header", ["{1 2}\n  x\n y\n", "{'descr': '<f8"])
def test_a_header_that_is_not_python_is_named(tmp_path, header):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    content = (tmp_path / "a.npy").read_bytes()
    damaged = content[:10] + header.encode().ljust(118) + content[128:]
    assert_refused(write(tmp_path / "a.npy", damaged), "no readable")


def test_text_with_the_suffix_of_an_npz_is_not_called_a_pickle(tmp_path):
    assert_refused(write(tmp_path / "a.npz", TIMES_HEADER + "1\t2.0\n"), "no readable")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (COMMENTS[:-1], "line 2 is truncated"),
        (TIMES_HEADER[:-7], "line 3 is truncated"),
        (TIMES_HEADER[:-7] + "\n", "line 3 is 'sender.*must be 'sender"),
        ("times,senders\n1.0,2\n", "line 1 is 'times,senders': must be 'sender"),
        (TIMES_HEADER + "1584\t1.600\n1554\t2.3", "line 5 is truncated"),
        (GDF + "12\t3.5", "line 4 is truncated"),
        (TIMES_HEADER + "1584\t1.600\n1554\n", "line 5 has 1 columns, must have 2"),
        (TIMES_HEADER + "1584\t1.600\n# a\n\n1554\n", "line 7 has 1 columns"),
        (TIMES_HEADER + "1\t1.6\t-70.0\n2\t1.7\t-70.0\n", "line 4 has 3 columns"),
        (STEPS_HEADER + "1\t16\n", "line 4 has 2 columns, must have 3"),
        (TIMES_HEADER + "1584\tx\n", "line 4 is .*'x' is not a number"),
        (TIMES_HEADER + "7\t1.0\n# a\n1584\tx\n", "line 6 is .*'x' is not a number"),
        (TIMES_HEADER + "1584\t1.2# NEST version: 3.10.0\n", "line 4"),
        (TIMES_HEADER + "1584\tnan\n", "line 4 is .*not finite"),
        (TIMES_HEADER + "1\t2.0\n1.5\t2\n", "line 5 is .*'1.5' is not a whole number"),
        (STEPS_HEADER + "1\t2.5\t0.0\n", "line 4 is .*'2.5' is not a whole number"),
        (COMMENTS + "sender\ttime_ms\tV_m\n1\t0.1\t-70.0\n", "line 3 is .*V_m"),
        (COMMENTS + "# sender\ttime_ms\tV_m\n1\t0.1\t-70.0\n", "line 3 is .*V_m"),
        (TIMES_HEADER + "1\t2.0\n" + STEPS_HEADER, "line 7 is .*same header as above"),
        (GDF + TIMES_HEADER, "line 6 is a header, but the rows before it have none"),
        (b"\xff\xfe\x00\x80" * 9, "no readable.* neither text nor"),
        ("sender\ttime_ms\n1\t2.0\n".encode("utf-16"), "neither text nor"),
        (b"\xff\xfe\xfd\n", "line 1"),
    ],
)
@pytest.mark.parametrize("name", ["a.dat", "a.gdf", "a"])
def test_invalid_text_is_named_with_the_line(tmp_path, content, message, name):
    assert_refused(write(tmp_path / name, content), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3\t5\n1\t12\n", "both columns are whole numbers.*sender<TAB>time_ms"),
        ("5\t3\t\n12\t1\t\n", "both columns are whole numbers"),
        ("0.5\t3\n1.25\t1\n", "not those of NEST 2"),
        ("0.5\t3.0\n1.25\t1.0\n", "not those of NEST 2"),
        ("3.0\t0.5\n1.0\t1.25\n", "not those of NEST 2"),
        # some times with a decimal point, some without: NEST 2 writes it in all
        ("3\t0.5\n1\t12\n", "not those of NEST 2"),
        ("3\t12\n1\t0.5\n", "not those of NEST 2"),
        ("3\t0.5\t-70.0\n", "no header and 3 columns"),
        ("3\n", "no header and 1 columns"),
    ],
)
def test_rows_that_do_not_say_what_they_are_are_refused(tmp_path, content, message):
    assert_refused(write(tmp_path / "a.gdf", content), message)


ROWS = "3\t0.500\n1\t1.250\n4000\t7.000\n"


@pytest.mark.parametrize(
    "content",
    [
        TIMES_HEADER + ROWS,
        COMMENTS + "# sender\ttime_ms\n" + ROWS,
        COMMENTS + "#sender time_ms\n" + ROWS,
        "sender time_ms\n" + ROWS.replace("\t", "   "),
        TIMES_HEADER + ROWS[:8] + TIMES_HEADER + ROWS[8:] + TIMES_HEADER,
        TIMES_HEADER + ROWS[:8] + COMMENTS + "\n# sender\ttime_ms\n" + ROWS[8:],
        (TIMES_HEADER + ROWS).replace("\n", "\r\n"),
        TIMES_HEADER + "".join(f"  {row}\n" for row in ROWS.splitlines()),
        "\ufeff" + TIMES_HEADER + ROWS,
        GDF,
        "# a comment: sender and time\n" + GDF,
        GDF.replace("\t\n", "\n"),
    ],
)
@pytest.mark.parametrize("name", ["a.dat", "a.gdf", "a.txt", "a.gdf.txt", "a.csv", "a"])
def test_text_is_recognised_by_its_content_under_any_suffix(tmp_path, content, name):
    path = write(tmp_path / name, content)
    np.testing.assert_array_equal(load_spikes(path), SPIKES)
    # it says that times are in ms, so that the resolution has no use
    np.testing.assert_array_equal(load_spikes(path, resolution=0.1), SPIKES)
    assert _default_first_id([path]) == 1


@pytest.mark.parametrize("header", [STEPS_HEADER, COMMENTS + "# sender time_step time_offset\n"])
def test_joined_files_in_steps_become_milliseconds(tmp_path, header):
    text = header + "4\t104\t0.010\n" + header + "2\t111\t0.000\n"
    path = write(tmp_path / "a.txt", text)
    spikes = load_spikes(path, resolution=0.1)
    np.testing.assert_allclose(spikes, [[10.39, 11.1], [4, 2]], rtol=1e-15)
    assert_refused(path, "resolution")


@pytest.mark.parametrize("content", ["", "\n", COMMENTS, TIMES_HEADER, TIMES_HEADER * 2])
@pytest.mark.parametrize("name", ["a.dat", "a.gdf", "a"])
def test_text_without_rows_is_an_empty_recording(tmp_path, content, name):
    assert load_spikes(write(tmp_path / name, content)).shape == (2, 0)


def test_a_binary_format_is_recognised_without_its_suffix(tmp_path):
    with open(tmp_path / "array", "wb") as file:
        np.save(file, SPIKES)
    with open(tmp_path / "archive", "wb") as file:
        np.savez(file, SPIKES)
    for name in ("array", "archive"):
        np.testing.assert_array_equal(load_spikes(tmp_path / name), SPIKES)
        assert _default_first_id([tmp_path / name]) == 0
    assert_refused(write(tmp_path / "a", pickle.dumps(SPIKES)), "is a pickle")


def test_files_that_count_neurons_differently_need_the_first_id(tmp_path):
    np.save(tmp_path / "a.npy", SPIKES)
    with pytest.raises(ValueError, match="--first-id"):
        _default_first_id([tmp_path / "a.npy", THREAD_FILES[0]])


def test_an_archive_without_a_recording_is_named_with_its_contents(tmp_path):
    assert_refused(write_archive(tmp_path / "a.npz", b=SPIKES, c=SPIKES), "'b', 'c'.*spiketimes")
    assert_refused(write_archive(tmp_path / "a.npz", b=SPIKES.T), r"\(3, 2\)")


SPIKE_STRATEGY = st.tuples(st.floats(0, 1e7, allow_subnormal=False), st.integers(1, 10**7))


@given(st.lists(SPIKE_STRATEGY, max_size=40), st.integers(1, 3))
def test_any_recording_in_the_format_of_nest_is_read(tmp_path_factory, spikes, threads):
    files = []
    for thread in range(threads):
        lines = [f"{neuron}\t{time!r}\n" for time, neuron in sorted(spikes)[thread::threads]]
        file = tmp_path_factory.getbasetemp() / f"thread-{thread}.dat"
        files.append(write(file, TIMES_HEADER + "".join(lines)))
    loaded = load_spikes(files)
    assert np.all(np.diff(loaded[0]) >= 0)
    assert sorted(map(tuple, loaded.T)) == sorted(spikes)


STEPS_STRATEGY = st.tuples(st.integers(0, 10**8), st.floats(0, 0.0999), st.integers(1, 10**7))


@given(st.lists(STEPS_STRATEGY, max_size=20), st.sampled_from([0.1, 0.05, 1.0]))
def test_steps_in_events_and_files_become_the_same_times(tmp_path_factory, spikes, resolution):
    steps, offsets, senders = np.array(spikes, dtype=object).reshape(-1, 3).T.tolist()
    expected = [step * resolution - offset for step, offset, _ in spikes]
    events = {"times": steps, "offsets": offsets, "senders": senders}
    times, ids = as_spiketimes(events, resolution=resolution)
    np.testing.assert_allclose(times, expected, rtol=1e-15, atol=1e-12)
    np.testing.assert_array_equal(ids, senders)
    folder = tmp_path_factory.getbasetemp()
    archive = write_archive(folder / "steps.npz", **events)
    rows = "".join(f"{sender}\t{step}\t{offset!r}\n" for step, offset, sender in spikes)
    text = write(folder / "steps", STEPS_HEADER + rows)
    for path in (archive, text):
        loaded = load_spikes(path, resolution=resolution)
        assert sorted(map(tuple, loaded.T)) == sorted(zip(times, ids, strict=True))


SIMULATION = """
import nest
nest.resolution, nest.local_num_threads = 0.1, 2
source = nest.Create("poisson_generator_ps", params={"rate": 500.0})
cells = nest.Create("parrot_neuron_ps", 8)
nest.Connect(source, cells)
for label, time_in_steps in ("steps", True), ("ms", False):
    params = {"record_to": "ascii", "label": label, "precision": 15}
    params["time_in_steps"] = time_in_steps
    nest.Connect(cells, nest.Create("spike_recorder", params=params))
recorders = []
for time_in_steps in True, False:
    params = {"record_to": "memory", "time_in_steps": time_in_steps}
    recorders.append(nest.Create("spike_recorder", params=params))
    nest.Connect(cells, recorders[-1])
nest.Simulate(50.0)
import numpy as np, pickle
np.savez("memory-steps.npz", **recorders[0].events)
np.savez("memory-ms.npz", **recorders[1].events)
from rbn_jax.spikes import as_spiketimes
np.save("recorder.npy", as_spiketimes(recorders[1]))
np.save("recorder-steps.npy", as_spiketimes(recorders[0], resolution=0.1))
pickle.dump([(recorders[0] + recorders[1]).events, recorders[0].events], open("events.pkl", "wb"))
"""


def test_times_of_nest_in_steps_and_in_milliseconds_agree(nest_wheel, tmp_path):
    command = [sys.executable, "-c", SIMULATION]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    steps = load_spikes(sorted(tmp_path.glob("steps-*.dat")), resolution=0.1)
    ms = load_spikes(sorted(tmp_path.glob("ms-*.dat")))
    assert ms.shape[1] > 50
    np.testing.assert_allclose(steps, ms, rtol=0, atol=1e-9)
    memory_ms = load_spikes(tmp_path / "memory-ms.npz")
    np.testing.assert_allclose(memory_ms, ms, rtol=0, atol=1e-9)
    memory_steps = load_spikes(tmp_path / "memory-steps.npz", resolution=0.1)
    np.testing.assert_allclose(memory_steps, ms, rtol=0, atol=1e-9)
    # the recorders themselves
    for name in ("recorder.npy", "recorder-steps.npy"):
        np.testing.assert_allclose(load_spikes(tmp_path / name), ms, rtol=0, atol=1e-9)
    # the two kinds of recorders give a tuple of events
    both, events = pickle.loads((tmp_path / "events.pkl").read_bytes())
    assert isinstance(both, tuple)
    assert "offsets" in events
    assert np.issubdtype(np.asarray(events["times"]).dtype, np.integer)
    np.testing.assert_allclose(np.sort(as_spiketimes(events, resolution=0.1)[0]), ms[0], atol=1e-9)
    with pytest.raises(ValueError, match=r"spikes\[0\]: times is in steps"):
        as_spiketimes(both)
    assert_refused(tmp_path / "memory-steps.npz", r"times is in steps.*\(--\)resolution")


def test_an_archive_that_expands_to_more_than_the_limit_is_refused(tmp_path):
    file = tmp_path / "spikes.npz"
    np.savez_compressed(file, spiketimes=np.zeros((2, 500_000)))
    assert file.stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"spikes\.npz.*it expands to 8000\d+ bytes"):
        load_spikes(file, max_bytes=1_000_000)
    assert load_spikes(file).shape == (2, 500_000)
    with pytest.raises(ValueError, match="max_bytes=0"):
        load_spikes(file, max_bytes=0)


@pytest.mark.parametrize(
    "spikes",
    [
        STEP_EVENTS,
        pandas.DataFrame(STEP_EVENTS),
        pandas.DataFrame({"time_step": [104, 111], "time_offset": [0.01, 0.0], "sender": [4, 2]}),
        [STEP_EVENTS],
        {**STEP_EVENTS, "times": [104.0, 111.0]},
    ],
)
def test_events_with_offsets_are_in_steps(spikes):
    expected = [[10.39, 11.1], [4, 2]]
    np.testing.assert_allclose(as_spiketimes(spikes, resolution=0.1), expected, rtol=1e-15)
    with pytest.raises(ValueError, match=r"in steps, as there is .*resolution"):
        as_spiketimes(spikes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": [104.5, 111.0]}, "whole numbers of steps"),
        ({"offsets": [0.0]}, "differ in shape"),
        ({"times": [0.1, 0.2] * quantities.s}, "times has the unit"),
        ({"offsets": np.ma.masked_values([0.01, 0.0], 0.0)}, "offsets is a masked array"),
    ],
)
def test_invalid_steps_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        as_spiketimes({**STEP_EVENTS, **changes}, resolution=0.1)


@pytest.mark.parametrize("spikes", [SPIKES, EVENTS, [EVENTS], [[1.0], [], [2.0]]])
def test_a_resolution_for_times_that_are_not_said_to_be_steps_is_refused(tmp_path, spikes):
    with pytest.raises(ValueError, match="has no offsets"):
        as_spiketimes(spikes, resolution=0.1)


def test_a_resolution_for_an_archive_without_offsets_is_refused(tmp_path):
    path = write_archive(tmp_path / "a.npz", times=[104, 111], senders=[4, 2])
    with pytest.raises(ValueError, match=r"a\.npz: .*no offsets"):
        load_spikes(path, resolution=0.1)


@pytest.mark.parametrize("resolution", [0, -0.1, np.nan, np.inf, "0.1"])
def test_an_invalid_resolution_is_refused(resolution):
    with pytest.raises(ValueError, match=r"resolution=.*finite number > 0"):
        as_spiketimes(STEP_EVENTS, resolution=resolution)


TRAINS = [[0.5, 2.0, 7.5], [], [3.0]]
TRAINS_AS_ARRAY = [[0.5, 2.0, 7.5, 3.0], [0, 0, 0, 2]]


def neo_trains(unit):
    seconds = [np.array(train) / 1000 * quantities.s for train in TRAINS]
    return [neo.SpikeTrain(times.rescale(unit), t_stop=1 * quantities.s) for times in seconds]


def neo_segment_trains():
    segment = neo.Segment()
    segment.spiketrains.extend(neo_trains("s"))
    return segment.spiketrains


@pytest.mark.parametrize(
    "trains",
    [
        TRAINS,
        tuple(TRAINS),
        [np.array(train) for train in TRAINS],
        neo_trains("s"),
        neo_trains("ms"),
        neo_trains("us"),
        neo_segment_trains(),
        [pint.Quantity(np.array(train) / 1000, "s") for train in TRAINS],
        [(1000 * np.array(train)).astype("m8[us]") for train in TRAINS],
        [xarray.DataArray(np.array(t) / 1000, attrs={"units": "s"}) for t in TRAINS],
    ],
)
def test_trains_have_the_position_as_id_and_times_in_their_unit(trains):
    np.testing.assert_allclose(as_spiketimes(trains), TRAINS_AS_ARRAY, rtol=1e-14)


TRAIN_STRATEGY = st.lists(st.floats(0, 1e4), max_size=5)


@given(st.lists(TRAIN_STRATEGY, min_size=3, max_size=6))
def test_neo_reads_from_the_array_what_its_trains_hold(trains):
    neo_objects = [neo.SpikeTrain(train, t_stop=1e4, units="s") for train in trains]
    times, ids = as_spiketimes(neo_objects)
    for i, train in enumerate(trains):
        np.testing.assert_allclose(times[ids == i], np.array(train) * 1000, rtol=1e-14)
    if {len(train) for train in trains} != {2}:
        without_unit = as_spiketimes(trains)
        np.testing.assert_allclose(without_unit[0] * 1000, times, rtol=1e-14)
        np.testing.assert_array_equal(without_unit[1], ids)


def test_two_trains_with_a_unit_are_trains():
    trains = neo_trains("s")
    expected = [[0.5, 2.0, 7.5] * 2, [0, 0, 0, 1, 1, 1]]
    np.testing.assert_allclose(as_spiketimes([trains[0], trains[0]]), expected)


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        ([[0.5, 2.0], [1.5, 3.0]], "two trains"),
        ([[0.5, 2.0, 3.0], [1.5, 3.0, 4.0]], "two trains"),
        ([[0.5, 3.0], [1.25, 1.0], [7.0, 4.0]], "rows of .time, ID."),
        ([(0.5, 3), (1.25, 1), (7.0, 4)], "rows of .time, ID."),
        ([[0.5], [1.0, np.nan], []], r"spikes\[1\] holds values that are not finite"),
        ([[0.5], ["a"], []], "must be 2xN"),
        ([[0.5], [[1.0]], []], "must be 2xN"),
    ],
)
def test_sequences_that_may_not_be_trains_are_refused(spikes, message):
    with pytest.raises(ValueError, match=message):
        as_spiketimes(spikes)


SECONDS = SPIKES[0] / 1000


class BrianArray(np.ndarray):
    """Seconds that become plain numbers in NumPy, as a Quantity of Brian 2 does."""

    dim = "second"


class AstropyArray(np.ndarray):
    """Seconds with the interface of astropy."""

    unit = "s"

    def to_value(self, unit):
        assert unit == "ms"
        return np.asarray(self) * 1000


@pytest.mark.parametrize(
    "times",
    [
        SECONDS * quantities.s,
        pint.Quantity(SECONDS, "s"),
        SECONDS.view(AstropyArray),
        xarray.DataArray(SECONDS, attrs={"units": "s"}),
        xarray.DataArray(SPIKES[0], attrs={"units": b"ms"}),
        pandas.Series(pandas.to_timedelta(SECONDS, unit="s")),
    ],
)
def test_times_with_a_unit_are_converted(times):
    senders = SPIKES[1]
    np.testing.assert_allclose(as_spiketimes({"times": times, "senders": senders}), SPIKES)
    np.testing.assert_allclose(as_spiketimes((times, senders)), SPIKES)


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (SPIKES * quantities.s, "one array with the unit"),
        (SPIKES * quantities.dimensionless, "one array with the unit 1"),
        (pint.Quantity(SPIKES, "s"), "one array with the unit second"),
        (xarray.DataArray(SPIKES, attrs={"units": "s"}), "one array with the unit s"),
        (neo_trains("s")[0], "list of trains"),
        ({"times": SPIKES[0] * quantities.mV, "senders": SPIKES[1]}, "must be a unit of time"),
        ({"times": pint.Quantity(SPIKES[0], "mV"), "senders": SPIKES[1]}, "unit of time"),
        ({"times": SPIKES[0].view(BrianArray), "senders": SPIKES[1]}, "second.*cannot be conv"),
        ([SPIKES[0].view(BrianArray), SPIKES[1]], "second.*cannot be conv"),
        ([SPIKES[0].view(BrianArray), [], []], r"spikes\[1\] has no unit"),
        ({"times": SPIKES[0], "senders": SPIKES[1] * quantities.s}, "senders has the unit"),
        (
            {"times": xarray.DataArray([1.0], attrs={"units": "fortnights"}), "senders": [1]},
            "fortnights",
        ),
        (
            {"times": types.SimpleNamespace(dtype=types.SimpleNamespace(units="s")), "senders": []},
            "times has the unit s",
        ),
        ([SPIKES[0], SPIKES[1] * quantities.s], "has no unit, but other"),
    ],
)
def test_a_unit_that_is_not_of_time_or_of_ids_is_refused(spikes, message):
    with pytest.raises(ValueError, match=message):
        as_spiketimes(spikes)


MASKED = np.ma.masked_greater(SPIKES, 100.0)


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (MASKED, "spikes is a masked array"),
        ({"times": SPIKES[0], "senders": MASKED[1]}, "senders is a masked array"),
        ({"times": np.ma.masked_less(SPIKES[0], 1), "senders": SPIKES[1]}, "times is a masked"),
        ([SPIKES[0], MASKED[1]], r"spikes\[1\] is a masked array"),
        ([EVENTS, {"times": SPIKES[0], "senders": MASKED[1]}], r"spikes\[1\]: senders is a masked"),
        ([[1.0], np.ma.masked_less([1.0, 3.0], 2.0), []], r"spikes\[1\] is a masked array"),
        (
            pandas.DataFrame({"times": [1.0, 2.0], "senders": pandas.array([1, None], "Int64")}),
            "senders has missing values",
        ),
        (pandas.DataFrame({"times": [1.0, None], "senders": [1, 2]}), "times has missing values"),
    ],
)
def test_masked_and_missing_values_are_refused_by_name(spikes, message):
    with pytest.raises(ValueError, match=message):
        as_spiketimes(spikes)


def write_sonata(path, times=SPIKES[0], ids=SPIKES[1], units="ms", populations=("E",)):
    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        for name in populations:
            population = group.create_group(name)
            dataset = population.create_dataset("timestamps", data=times)
            population.create_dataset("node_ids", data=np.asarray(ids, dtype="u8"))
            if units is not None:
                dataset.attrs["units"] = units
    return path


@pytest.mark.parametrize("name", ["spikes.h5", "spikes.hdf5", "spikes"])
@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("ms", 1),
        ("milliseconds", 1),
        (np.bytes_("ms"), 1),
        (np.array(["ms"], dtype=object), 1),
        ("s", 1e-3),
    ],
)
def test_a_file_of_sonata_is_read_in_its_unit(tmp_path, name, units, factor):
    path = write_sonata(tmp_path / name, SPIKES[0] * factor, units=units)
    np.testing.assert_allclose(load_spikes(path), SPIKES, rtol=1e-15)
    np.testing.assert_allclose(load_spikes(path, population="E", resolution=0.1), SPIKES)
    assert _default_first_id([path]) == 0
    with h5py.File(path) as file:
        group = file["spikes/E"]
        events = {"times": group["timestamps"], "senders": group["node_ids"]}
        np.testing.assert_allclose(as_spiketimes(events), SPIKES, rtol=1e-15)


def test_times_of_sonata_without_a_unit_are_ms_with_a_warning(tmp_path):
    path = write_sonata(tmp_path / "a.h5", units=None)
    with pytest.warns(UserWarning, match=r"a\.h5: .*units.* taken as ms") as record:
        np.testing.assert_array_equal(load_spikes(path), SPIKES)
    assert record[0].filename == __file__


def test_the_first_version_of_sonata_has_no_populations(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spikes/timestamps"] = SPIKES[0]
        file["spikes/timestamps"].attrs["units"] = "ms"
        file["spikes/gids"] = SPIKES[1].astype(int)
    np.testing.assert_array_equal(load_spikes(tmp_path / "a.h5"), SPIKES)
    with pytest.raises(ValueError, match="no populations"):
        load_spikes(tmp_path / "a.h5", population="E")


def test_one_of_several_populations_of_sonata_must_be_chosen(tmp_path):
    path = write_sonata(tmp_path / "a.h5", populations=("E", "I"))
    np.testing.assert_array_equal(load_spikes(path, population="I"), SPIKES)
    assert_refused(path, r"\['E', 'I'\].*population")
    with pytest.raises(ValueError, match=r"no population 'X', but \['E', 'I'\]"):
        load_spikes(path, population="X")
    with pytest.raises(ValueError, match="no populations"):
        load_spikes(THREAD_FILES, population="E")


@pytest.mark.parametrize("populations", [(), ("E",)])
def test_a_file_of_sonata_without_spikes_is_an_empty_recording(tmp_path, populations):
    path = write_sonata(tmp_path / "a.h5", [], [], populations=populations)
    assert load_spikes(path).shape == (2, 0)


def test_a_file_of_sonata_that_expands_to_more_than_the_limit_is_refused(tmp_path):
    # the datasets claim 16 TB, of which none is in the file
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("timestamps", "node_ids"):
            file.create_dataset(f"spikes/E/{name}", (10**12,), "f8", chunks=(1024,))
    assert_refused(tmp_path / "a.h5", "expands to 16000000000000 bytes")


def write_hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({}, "must hold the group 'spikes'"),
        ({"a": [1]}, r"\['a'\]: must hold the group 'spikes'"),
        ({"spikes": [1]}, "must hold the group 'spikes'"),
        ({"spikes__E__timestamps": [1.0]}, "must hold timestamps and node_ids"),
        ({"spikes__E__node_ids": [1]}, "must hold timestamps and node_ids"),
        ({"spikes__E__node_ids": [1], "spikes__E__timestamps": [[1.0]]}, "not a 1-D dataset"),
        ({"spikes__E__node_ids": [1], "spikes__E__timestamps": ["a"]}, "not a 1-D dataset"),
    ],
)
def test_another_hdf5_file_is_refused_with_its_contents(tmp_path, datasets, message):
    assert_refused(write_hdf5(tmp_path / "a.h5", **datasets), message)


def test_an_unknown_unit_of_sonata_is_refused(tmp_path):
    assert_refused(write_sonata(tmp_path / "a.h5", units="steps"), "the unit 'steps'")


@pytest.mark.parametrize("fraction", [0, 1e-3, 0.02, 0.5, 0.9])
def test_a_truncated_file_of_sonata_is_named(tmp_path, fraction):
    path = write_sonata(tmp_path / "a.h5")
    assert_refused(truncate(path, fraction), "no readable SONATA spike file")


def test_a_file_of_sonata_with_a_damaged_start_is_named_or_read(tmp_path):
    # damage further on may make the HDF5 library itself crash, which no reader can prevent
    path = write_sonata(tmp_path / "a.h5")
    content = path.read_bytes()
    messages = []
    for i in range(48):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        try:
            load_spikes(path)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(message.startswith(str(path)) for message in messages)


def test_without_h5py_the_extra_that_installs_it_is_named(tmp_path, monkeypatch):
    path = write_sonata(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is missing: pip install 'rbn_jax\[sonata\]'"):
        load_spikes(path)


def test_no_package_of_spikes_is_imported(tmp_path):
    code = """
import sys
import numpy as np
from rbn_jax.spikes import as_spiketimes
as_spiketimes({"times": [1.0], "senders": [1]})
as_spiketimes([[1.0], [], [2.0, 3.0]])
print([name for name in ("pandas", "neo", "quantities", "pint", "h5py") if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
