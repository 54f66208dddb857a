"""Release builds are laid out by the recorded profile, all others are left alone."""

import subprocess

from processes import REPOSITORY

COMPILER = REPOSITORY / "deploy/rustc"


def test_the_profile_goes_to_what_is_optimised_for_release_alone():
    assert passed_on("-C", "opt-level=1", "a b") == ["-C", "opt-level=1", "a b"]
    *arguments, profile, quiet = passed_on("-C", "opt-level=3", "a b")
    assert arguments == ["-C", "opt-level=3", "a b"]
    assert profile == f"-Cprofile-use={REPOSITORY}/deploy/weir.profdata"
    assert quiet == "-Cllvm-args=-no-pgo-warn-mismatch"


def test_the_compilers_exit_status_is_passed_on():
    assert subprocess.run([COMPILER, "sh", "-c", "exit 7", "opt-level=3"], timeout=10).returncode == 7


def test_what_was_built_by_another_profile_is_not_built_upon(tmp_path):
    build = [COMPILER, "true", "--out-dir", tmp_path, "-C", "opt-level=3"]
    for _ in range(2):
        subprocess.run(build, check=True, timeout=10)
    (tmp_path / "weir-profile").write_text("another\n")
    refused = subprocess.run(build, capture_output=True, text=True, timeout=10)
    assert refused.returncode == 1
    assert "cargo clean --release" in refused.stderr


def test_a_build_with_tests_or_examples_has_the_features_of_one_without():
    """Features are part of every symbol's name, by which the profile knows functions."""
    assert features("normal,build") - features("normal,build,dev") == set()


def passed_on(*arguments: str) -> list[str]:
    """What the compiler is given where Cargo gives these."""
    show = [COMPILER, "printf", "%s\\n", *arguments]
    return subprocess.run(show, check=True, capture_output=True, text=True, timeout=10).stdout.splitlines()


def features(edges: str) -> set[str]:
    """Packages with their features, as lines."""
    tree = ["cargo", "tree", "--locked", "--prefix", "none", "--no-dedupe", "--edges", edges, "--format", "{p} {f}"]
    listed = subprocess.run(tree, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60)
    return set(listed.stdout.splitlines())
