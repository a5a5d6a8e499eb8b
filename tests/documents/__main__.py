"""``python -m tests.documents``: writes the documents."""

from tests.documents import DOCUMENTS, FOLDER

for name, document in DOCUMENTS.items():
    (FOLDER / name).write_text(document())
