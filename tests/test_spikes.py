"""Spike recordings: valid files are read, and invalid ones are refused with their name."""

import pickle
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbn_jax.spikes import as_spiketimes, load_spikes

DATA = Path(__file__).parent / "data"
THREAD_FILES = [DATA / "ei_clustered-5003-0.dat", DATA / "ei_clustered-5003-1.dat"]
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
        ("", "line 1"),
        (COMMENTS, "must be 'sender"),
        ("# NEST version: 3.10.0", "line 1 is '# NEST version: 3.10.0': must be 'sender"),
        (TIMES_HEADER[:-7], "line 3"),
        (TIMES_HEADER + "1584\t1.600\n1554\t2.3", "line 5 is truncated"),
        (TIMES_HEADER + "1584\t1.600\n1554\n", "columns"),
        (TIMES_HEADER + "1584\tx\n", "x"),
        (TIMES_HEADER + "1584\tnan\n", "not finite"),
        (COMMENTS + "sender\ttime_ms\tV_m\n1\t0.1\t-70.0\n", "line 3 is .*V_m"),
        ("1\t2.0\n3\t4.0\n", "line 1"),
        (b"\xff\xfe\x00\x80" * 9, "no readable"),
    ],
)
def test_an_invalid_dat_is_named_with_the_line(tmp_path, content, message):
    assert_refused(write(tmp_path / "a.dat", content), message)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a", "a.npz.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    assert_refused(write(tmp_path / name, "1"), r"must end in \.npy, \.npz, \.dat")


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
nest.Simulate(50.0)
"""


def test_times_of_nest_in_steps_and_in_milliseconds_agree(nest_wheel, tmp_path):
    command = [sys.executable, "-c", SIMULATION]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    steps = load_spikes(sorted(tmp_path.glob("steps-*.dat")), resolution=0.1)
    ms = load_spikes(sorted(tmp_path.glob("ms-*.dat")))
    assert ms.shape[1] > 50
    np.testing.assert_allclose(steps, ms, rtol=0, atol=1e-9)


def test_an_archive_that_expands_to_more_than_the_limit_is_refused(tmp_path):
    file = tmp_path / "spikes.npz"
    np.savez_compressed(file, spiketimes=np.zeros((2, 500_000)))
    assert file.stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"spikes\.npz.*it expands to 8000\d+ bytes"):
        load_spikes(file, max_bytes=1_000_000)
    assert load_spikes(file).shape == (2, 500_000)
    with pytest.raises(ValueError, match="max_bytes=0"):
        load_spikes(file, max_bytes=0)
