"""Files of orders and returns with personal data, rows of every kind of badness, and keys that events must encode.

Every e-mail address, phone number and address in them holds a canary; none may be seen beyond bronze, nor in a log.
"""

import csv
import gzip
import io
import json
from collections import Counter

CANARY = "zanzibar"
CANARY_PHONE = "+44 20 7946 0"  # and three digits
ORDERS_IN_A_FILE = 40

# What a row is changed to, and the rules that discard it then.
BAD = [
    ({"status": "lost"}, "bad_status"),
    ({"amount": "-1"}, "amount_range"),
    ({"amount": "100000.01"}, "amount_range"),
    ({"currency": "BTC"}, "bad_currency"),
    ({"created_at": "2199-01-01T00:00:00Z"}, "future_time"),
    ({"created_at": "yesterday"}, "type.created_at"),
    ({"amount": "ten"}, "type.amount"),
    ({"order_id": None}, "required.order_id"),
    ({"order_id": "A 1"}, "type.order_id"),
]


def all_files():
    """By key below the lake: the bytes. Each file of orders has good rows, and the bad ones of `BAD`."""
    return {
        "bronze/returns/dt=2026-01-01/long ago.ndjson": returns(0, "2026-01-01", 12),
        "bronze/returns/dt=2026-11-01/returns.ndjson": returns(1, "2026-11-01", 12),
        "bronze/returns/dt=2026-11-01/set aside.ndjson": returns(2, "2026-11-01", 3, kind="TEST"),
        "bronze/orders/dt=2026-01-01/shop a+b/orders 1.ndjson": ndjson(0),
        "bronze/orders/dt=2026-01-02/Bestellungen über 100 %.csv.gz": gzip.compress(as_csv(1), mtime=0),
        "bronze/orders/dt=2026-01-03/orders=3&x.csv": as_csv(2),
    }


def lost_file():
    """A file whose event gets lost."""
    return {"bronze/orders/dt=2026-01-04/nobody told.ndjson": ndjson(3)}


def discards():
    """Rows of orders that each rule discards, in all files."""
    found = Counter(rule for _ in range(4) for _, rule in BAD)
    return found + Counter({"malformed_json": 2})


def rows(file):
    """Good orders, then one of each kind of bad."""
    for number in range(ORDERS_IN_A_FILE):
        yield order(file, number)
    for number, (change, _) in enumerate(BAD, ORDERS_IN_A_FILE):
        yield order(file, number) | change


def order(file, number):
    return {
        "order_id": f"F{file}-{number}",
        "status": ["pending", "paid", "shipped"][number % 3],
        "amount": f"{10 + number}.5{file}",
        "currency": ["EUR", "USD"][number % 2],
        "created_at": f"2026-01-0{file + 1}T{number % 24:02}:00:00Z",
        "customer_email": f"ann.{file}.{number}@{CANARY}.example",
        "phone": f"{CANARY_PHONE}{number:03}",
        "country": "GB",
        "notes": f"please mail to bob{number}@{CANARY}.example",
        "updated_at": f"2026-01-0{file + 1}T{number % 24:02}:30:00Z",
    }


def ndjson(file):
    """The last line is no JSON at all, and holds an address to be hidden all the same."""
    lines = [json.dumps(row | {"amount": as_number(row["amount"])}) for row in rows(file)]
    return "\n".join([*lines, f'{{"order_id": "F{file}-x", "customer_email": "eve@{CANARY}.example']).encode()


def as_number(text):
    return float(text) if text.lstrip("-").replace(".", "").isdigit() else text


def as_csv(file):
    text = io.StringIO()
    writer = csv.DictWriter(text, order(0, 0).keys())
    writer.writeheader()
    writer.writerows(rows(file))
    return text.getvalue().encode()


def returns(file, day, rows, kind="R"):
    """Every third has too many parcels."""
    lines = [
        json.dumps(
            {
                "return_id": f"{kind}-{file}-{number}",
                "at": f"{day}T10:00:00Z",
                "customer_email": f"tom{number}@{CANARY}.example",
                "parcels": 1_000 if number % 3 == 2 else number + 1,
            }
        )
        for number in range(rows)
    ]
    return "\n".join(lines).encode()
