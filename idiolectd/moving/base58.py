"""Base58 with Bitcoin's alphabet, which multibase calls base58btc (https://www.w3.org/TR/controller-document)."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {char: digit for digit, char in enumerate(_ALPHABET)}


def base58_encode(data: bytes) -> str:
    """Encodes bytes; each zero byte at their start is one ``1``."""
    number, digits = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


def base58_decode(text: str, length: int) -> bytes:
    """Decodes a text of so many bytes.

    Raises:
        ValueError: it is not base58, or of another length.
    """
    if len(text) > 2 * length:  # before the work that grows with the square of the length
        raise ValueError("too long")
    number = 0
    for char in text:
        if char not in _DIGITS:
            raise ValueError("not base58")
        number = number * len(_ALPHABET) + _DIGITS[char]
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
    if len(data) != length:
        raise ValueError("of another length")
    return data
