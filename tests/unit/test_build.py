"""What results say of the code that made them."""

import subprocess
from pathlib import Path

from sde_gen import build


def test_a_commit_with_changed_files_says_so(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words], check=True
        )

    (tmp_path / "code.py").write_text("1")
    git("init", "--quiet")
    git("add", "code.py")
    git("commit", "--quiet", "-m", "Begin")
    commit = build._commit(tmp_path)["commit"]
    assert len(commit) == 40
    (tmp_path / "results.json").write_text("{}")
    assert build._commit(tmp_path)["commit"] == commit, "a file that is not the project's changes nothing"
    (tmp_path / "code.py").write_text("2")
    assert build._commit(tmp_path)["commit"] == commit + "+"
    assert build._commit(tmp_path / "elsewhere") == {}
