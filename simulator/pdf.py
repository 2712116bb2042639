"""Small PDF files, byte for byte the same for the same text: the certificates of the simulated lab."""

from __future__ import annotations

from collections.abc import Sequence

_LINE_HEIGHT = 18
_TOP, _LEFT = 780, 60


def pdf_document(title: str, lines: Sequence[str]) -> bytes:
    """A one-page A4 document with a title and lines of text; characters outside Windows-1252 become `?`."""
    text = [b"BT /F1 16 Tf %d %d Td (%s) Tj ET" % (_LEFT, _TOP, _literal(title))]
    for row, line in enumerate(lines, start=2):
        text.append(b"BT /F1 11 Tf %d %d Td (%s) Tj ET" % (_LEFT, _TOP - row * _LINE_HEIGHT, _literal(line)))
    content = b"\n".join(text)
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources 7 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title (%s) /Producer (Simulated calibration lab) >>" % _literal(title),
        b"<< /Font << /F1 5 0 R >> >>",
    )
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info 6 0 R >>\n" % (len(objects) + 1)
    out += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def _literal(text: str) -> bytes:
    # A PDF string ends at an unpaired bracket and escapes with a backslash.
    plain = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").replace("\n", " ")
    return plain.encode("cp1252", errors="replace")
