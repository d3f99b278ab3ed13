"""Writes one large object of orders, as lines of JSON, for the measurement in docs/benchmarks.md.

    python3 tests/large.py BYTES FILE [NOTE_BYTES]

The same arguments write the same bytes. An order a second; one of a hundred has a bad status.
"""

import sys

WORDS = "please leave the parcel at the door of the neighbour who is at home in the afternoon ".split()
STATUSES = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"]


def order(number: int, note: str) -> str:
    status = "lost" if number % 100 == 99 else STATUSES[number % 6]
    day, second = divmod(number, 86_400)
    at = f"2026-01-{day % 28 + 1:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
    return (
        f'{{"order_id":"o-{number:09}","status":"{status}","amount":{number % 99_999 + 1}.25,"currency":"EUR",'
        f'"created_at":"{at}","customer_email":"buyer{number}@mail.example","country":"DE","notes":"{note}"}}\n'
    )


def main() -> None:
    total, path = int(sys.argv[1]), sys.argv[2]
    note_bytes = int(sys.argv[3]) if len(sys.argv) > 3 else 800
    words = [WORDS[n % len(WORDS)] for n in range(note_bytes // 4)]
    notes = [" ".join(words[n:])[:note_bytes] for n in range(len(WORDS))]
    written = number = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < total:
            written += file.write(order(number, notes[number % len(notes)]))
            number += 1
    print(f"{number} orders, {written} bytes")


if __name__ == "__main__":
    main()
