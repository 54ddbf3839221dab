"""Spike recordings: what is read, and what is refused with the file's name."""

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
THREADS = [DATA / "ei_clustered-5003-0.dat", DATA / "ei_clustered-5003-1.dat"]
ABOUT = "# NEST version: 3.10.0\n# RecordingBackendASCII version: 2\n"
MS, STEPS = ABOUT + "sender\ttime_ms\n", ABOUT + "sender\ttime_step\ttime_offset\n"
SPIKES = np.array([[0.5, 1.25, 7.0], [3.0, 1.0, 4000.0]])


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def archive(path, **arrays):
    np.savez(path, **arrays)
    return path


def cut(path, share):
    return written(path, path.read_bytes()[: int(share * path.stat().st_size)])


def refused(path, words):
    with pytest.raises(ValueError, match=rf"{path.name}: .*{words}"):
        load_spikes(path)


def by_hand(path):
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
def test_arrays_and_nests_events_are_recordings(spikes):
    np.testing.assert_array_equal(as_spiketimes(spikes), SPIKES, strict=True)


@pytest.mark.parametrize("spikes", [[[], []], {"times": [], "senders": []}, np.empty((2, 0), int)])
def test_an_empty_recording_is_a_recording(spikes):
    assert as_spiketimes(spikes).shape == (2, 0)
    assert as_spiketimes(spikes).dtype == float


@pytest.mark.parametrize(
    ("spikes", "words"),
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
def test_what_is_no_recording_is_refused(spikes, words):
    with pytest.raises(ValueError, match=words):
        as_spiketimes(spikes)


def test_npy_holds_the_array(tmp_path):
    np.save(tmp_path / "a.npy", SPIKES)
    np.testing.assert_array_equal(load_spikes(tmp_path / "a.npy"), SPIKES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"spiketimes": SPIKES},
        {"spiketimes": SPIKES, "about": np.array(3)},
        {"anything": SPIKES},
        {"times": SPIKES[0], "senders": SPIKES[1].astype(int)},
    ],
)
def test_npz_holds_spiketimes_or_times_and_senders(tmp_path, arrays):
    path = archive(tmp_path / "a.npz", **arrays)
    np.testing.assert_array_equal(load_spikes(str(path)), SPIKES)


def test_the_recorded_npz_is_read_whole():
    with np.load(DATA / "ei_clustered_spikes.npz") as file:
        expected = file["spiketimes"]
    spikes = load_spikes(DATA / "ei_clustered_spikes.npz")
    assert spikes.shape == (2, 12391)
    assert sorted(zip(*spikes, strict=True)) == sorted(zip(*expected, strict=True))


@pytest.mark.parametrize("paths", [THREADS[:1], THREADS[1:], THREADS])
def test_the_files_of_nests_threads_are_merged_and_ordered_in_time(paths):
    spikes = load_spikes(paths)
    assert np.all(np.diff(spikes[0]) >= 0)
    assert sorted(map(tuple, spikes.T)) == sorted(chain(*map(by_hand, paths)))


def test_one_file_out_of_order_is_ordered_in_time(tmp_path):
    path = written(tmp_path / "a.dat", MS + "7\t2.500\n8\t1.250\n")  # NEST with delay > resolution
    np.testing.assert_array_equal(load_spikes(path), [[1.25, 2.5], [8, 7]])


def test_times_in_steps_become_milliseconds(tmp_path):
    path = written(tmp_path / "a.dat", STEPS + "2\t28\t0.000\n3\t31\t0.025\n")
    spikes = load_spikes(path, resolution=0.1)
    np.testing.assert_allclose(spikes, [[2.8, 3.075], [2, 3]], rtol=1e-15)


def test_times_in_steps_need_the_resolution(tmp_path):
    refused(written(tmp_path / "a.dat", STEPS + "2\t28\t0.000\n"), "resolution")


@pytest.mark.parametrize("header", [MS, STEPS, MS + "\n"])
def test_a_header_alone_is_an_empty_recording(tmp_path, header):
    empty = written(tmp_path / "a.dat", header)
    assert load_spikes(empty, resolution=0.1).shape == (2, 0)
    np.testing.assert_array_equal(load_spikes([empty, THREADS[1]]), load_spikes(THREADS[1]))


@pytest.mark.parametrize(
    ("paths", "resolution"), [(THREADS, 0), (THREADS, -1), (THREADS, np.nan), ([], 1)]
)
def test_no_file_or_a_resolution_that_is_not_positive_is_refused(paths, resolution):
    with pytest.raises(ValueError, match=r"no spike file|resolution"):
        load_spikes(paths, resolution=resolution)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".PKL"])
def test_a_pickle_is_refused_and_why_is_said(tmp_path, suffix):
    path = written(tmp_path / f"a{suffix}", pickle.dumps(SPIKES))
    refused(path, "is a pickle, which can run any program")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_array_that_is_a_pickle_inside_is_refused(tmp_path, suffix):
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", SPIKES.astype(object))
    refused(tmp_path / f"a{suffix}", "is a pickle")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".dat"])
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_spikes(tmp_path / f"nowhere{suffix}")


@pytest.mark.parametrize("share", [0, 1e-3, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_file_cut_short_is_named(tmp_path, suffix, share):
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"a{suffix}", np.ones((2, 500)))
    refused(cut(tmp_path / f"a{suffix}", share), rf"no readable \{suffix} spike file")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_damaged_in_the_middle_is_named(tmp_path, save):
    save(tmp_path / "a.npz", np.random.default_rng(1).random((2, 500)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[70:90] = b"\xff" * 20
    refused(written(tmp_path / "a.npz", bytes(content)), "no readable")


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_a_file_with_any_byte_damaged_is_named_or_read(tmp_path, save):
    path = tmp_path / ("a.npy" if save is np.save else "a.npz")
    save(path, np.ones((2, 3)))
    content, said = path.read_bytes(), []
    for at in range(len(content)):
        for byte in (content[at] ^ 0xFF, content[at] ^ 0x01, 0x20):
            path.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
            try:
                load_spikes(path)
            except ValueError as error:
                said.append(str(error))
    assert len(said) > len(content) / 2
    assert all(text.startswith(str(path)) for text in said)


@pytest.mark.parametrize("header", ["{1 2}\n  x\n y\n", "{'descr': '<f8"])
def test_a_header_that_is_no_python_is_named(tmp_path, header):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    content = (tmp_path / "a.npy").read_bytes()
    damaged = content[:10] + header.encode().ljust(118) + content[128:]
    refused(written(tmp_path / "a.npy", damaged), "no readable")


def test_text_under_the_name_of_an_npz_is_not_called_a_pickle(tmp_path):
    refused(written(tmp_path / "a.npz", MS + "1\t2.0\n"), "no readable")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1"),
        (ABOUT, "must be 'sender"),
        (MS[:-7], "line 3"),
        (MS + "1584\t1.600\n1554\t2.3", "line 5 is truncated"),
        (MS + "1584\t1.600\n1554\n", "columns"),
        (MS + "1584\tx\n", "x"),
        (MS + "1584\tnan\n", "not finite"),
        (ABOUT + "sender\ttime_ms\tV_m\n1\t0.1\t-70.0\n", "line 3 is .*V_m"),
        ("1\t2.0\n3\t4.0\n", "line 1"),
        (b"\xff\xfe\x00\x80" * 9, "no readable"),
    ],
)
def test_a_dat_that_is_none_is_named_and_the_line_shown(tmp_path, content, words):
    refused(written(tmp_path / "a.dat", content), words)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a", "a.npz.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    refused(written(tmp_path / name, "1"), r"must end in \.npy, \.npz, \.dat")


def test_an_archive_of_anything_else_is_named_with_what_it_holds(tmp_path):
    refused(archive(tmp_path / "a.npz", b=SPIKES, c=SPIKES), "'b', 'c'.*spiketimes")
    refused(archive(tmp_path / "a.npz", b=SPIKES.T), r"\(3, 2\)")


SPIKE = st.tuples(st.floats(0, 1e7, allow_subnormal=False), st.integers(1, 10**7))


@given(st.lists(SPIKE, max_size=40), st.integers(1, 3))
def test_any_recording_in_nests_text_is_read_back(tmp_path_factory, spikes, threads):
    parts = [tmp_path_factory.getbasetemp() / f"part-{i}.dat" for i in range(threads)]
    for i, part in enumerate(parts):
        written(part, MS + "".join(f"{n}\t{t!r}\n" for t, n in sorted(spikes)[i::threads]))
    read = load_spikes(parts)
    assert np.all(np.diff(read[0]) >= 0)
    assert sorted(map(tuple, read.T)) == sorted(spikes)


SIMULATION = """
import nest
nest.resolution, nest.local_num_threads = 0.1, 2
source = nest.Create("poisson_generator_ps", params={"rate": 500.0})
cells = nest.Create("parrot_neuron_ps", 8)
nest.Connect(source, cells)
for label, steps in ("steps", True), ("ms", False):
    how = {"record_to": "ascii", "time_in_steps": steps, "label": label, "precision": 15}
    nest.Connect(cells, nest.Create("spike_recorder", params=how))
nest.Simulate(50.0)
"""


def test_nests_two_ways_to_write_times_agree(nest_wheel, tmp_path):
    run = [sys.executable, "-c", SIMULATION]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    steps = load_spikes(sorted(tmp_path.glob("steps-*.dat")), resolution=0.1)
    ms = load_spikes(sorted(tmp_path.glob("ms-*.dat")))
    assert ms.shape[1] > 50
    np.testing.assert_allclose(steps, ms, rtol=0, atol=1e-9)
