"""``python -m tests.docs``: writes the documents."""

from tests.docs import FOLDER, WRITTEN

for name, document in WRITTEN.items():
    (FOLDER / name).write_text(document())
