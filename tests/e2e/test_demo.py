import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_the_demo_restores_its_samples_and_draws_a_contact_sheet(tmp_path):
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "demo", "--folder", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sidecars = [json.loads(path.read_text()) for path in folder.rglob("*.restored*.json")]
    assert len(sidecars) == 5
    restored = {
        sidecar["master"]["key"]: sum(face["restored"] for face in sidecar["faces"])
        for sidecar in sidecars
    }
    assert restored["album_page.jpg"] == 6
    assert restored["prints/no_face.jpg"] == 0
    assert all(count == 1 for key, count in restored.items() if "port" in key or "small" in key)
    with Image.open(folder / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
    assert str(folder / "contact-sheet.png") in done.stdout.replace("\n", "")
