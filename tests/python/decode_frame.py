"""Decodes frames of version 1, written from docs/wire-format.md alone and not from the Rust sources.

    decode_frame.py agent/tests/golden/v1/*.hex

compares each golden frame with the .txt beside it; exit code 1 if one differs.
"""

import struct
import sys
from bisect import bisect_left, insort
from math import gcd
from pathlib import Path

RATE = [30000, 22000, 16384, 13107, 10923, 9362, 8192, 7282, 6554, 5461, 4681, 4096, 3640, 3277, 2979, 2731]
LETTERS = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
MISSING, CLOCK_UNSET, RESTAMPED = 4, 8, 16
FROM_BOOT = CLOCK_UNSET | RESTAMPED


class Damaged(Exception):
    """The bytes are not a frame."""


def i64(n):
    return (n + 2**63) % 2**64 - 2**63


def rem(a, b):
    return abs(a) % b * (1 if a >= 0 else -1)


def demand(condition, what):
    if not condition:
        raise Damaged(what)


class Odds:
    def __init__(self, p=2048, age=0):
        self.p, self.age = p, age

    def learn(self, yes):
        r = RATE[self.age]
        if yes:
            self.p = min(4088, self.p + (((4096 - self.p) * r + 65535) >> 16))
        else:
            self.p = max(8, self.p - ((self.p * r + 65535) >> 16))
        self.age = min(self.age + 1, 15)


def even(n):
    return [Odds() for _ in range(n)]


def sure(n):
    return [Odds(1920, 11) for _ in range(n)]


def rare(n):
    return [Odds(256, 1) for _ in range(n)]


class Coder:
    def __init__(self, body):
        self.body, self.place, self.range, self.code = body, 0, 2**32 - 1, 0
        for _ in range(4):
            self.shift()

    def shift(self):
        byte = self.body[self.place] if self.place < len(self.body) else 0
        self.code = (self.code << 8 | byte) % 2**32
        self.place += 1

    def widen(self):
        while self.range < 2**24:
            self.range <<= 8
            self.shift()

    def answer(self, odds):
        bound = (self.range >> 12) * odds.p
        yes = self.code < bound
        if yes:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        odds.learn(yes)
        self.widen()
        return yes

    def raw(self, bits):
        value = 0
        while bits > 0:
            piece = min(bits, 16)
            bits -= piece
            self.range >>= piece
            part = min(self.code // self.range, 2**piece - 1)
            self.code -= part * self.range
            self.widen()
            value = value << piece | part
        return value

    def tree(self, odds, bits):
        node = 1
        for _ in range(bits):
            node = 2 * node + self.answer(odds[node])
        return node - 2**bits


class Residual:
    def __init__(self):
        self.zero, self.sign = even(4), sure(2)
        self.mantissa = [sure(3) for _ in range(6)]
        self.usual, self.longer = even(2), even(2)
        self.further = [[even(6), even(6)] for _ in range(2)]
        self.zeros = self.signs = self.mean = self.seen = 0

    def decode(self, coder):
        zero = coder.answer(self.zero[self.zeros])
        self.zeros = (2 * self.zeros + zero) & 3
        if zero:
            return 0
        negative = coder.answer(self.sign[self.signs])
        self.signs = int(negative)
        length = self.length(coder)
        sample = 256 * length
        self.mean = sample if self.seen == 0 else self.mean + ((sample - self.mean) >> min(self.seen, 3))
        self.seen = min(self.seen + 1, 4)
        odds, left, magnitude = self.mantissa[min(length - 1, 5)], length - 1, 1
        if left > 0:
            high = coder.answer(odds[0])
            magnitude, left = 2 * magnitude + high, left - 1
            if left > 0:
                magnitude, left = 2 * magnitude + coder.answer(odds[1 + high]), left - 1
                magnitude = magnitude << left | coder.raw(left)
        return i64(-magnitude if negative else magnitude)

    def length(self, coder):
        if self.seen == 0:
            return coder.raw(6) + 1
        u = self.mean + 128
        usual, half = u >> 8, u >> 7 & 1
        if coder.answer(self.usual[half]):
            return usual
        longer = coder.answer(self.longer[half])
        for step in range(1, 7):
            if not coder.answer(self.further[half][longer][step - 1]):
                return min(64, max(1, usual + step if longer else usual - step))
        return coder.raw(6) + 1


class Predictor:
    E, M = 6, 5

    def __init__(self):
        self.guesses, self.errors, self.best, self.seen = [0] * 6, [0] * 6, 0, 0
        self.x1 = self.x2 = self.mean = self.slope = 0

    def guess(self):
        return self.guesses[self.best]

    def toward(self, mean, x):
        return i64(mean + (i64(i64(16 * x) - mean) >> self.M))

    def learn(self, x):
        if self.seen == 0:
            self.x1 = self.x2 = x
            self.mean, self.guesses, self.seen = i64(16 * x), [x] * 6, 1
            return
        for i, guess in enumerate(self.guesses):
            error = self.errors[i] - (self.errors[i] >> self.E) + abs(i64(x - guess))
            self.errors[i] = min(2**64 - 1, error)
        self.best = self.errors.index(min(self.errors))
        d = i64(x - self.x1)
        bend = i64(d - i64(self.x1 - self.x2))
        self.mean = self.toward(self.mean, x)
        self.slope = i64(16 * d) if self.seen == 1 else self.toward(self.slope, d)
        self.seen, self.x2, self.x1 = 2, self.x1, x
        mean, slope = i64(self.mean + 8) >> 4, i64(self.slope + 8) >> 4
        self.guesses = [x, i64(x + d), i64(x + d + bend), mean, i64(x + slope), i64(x + (d >> 1))]


class Values:
    def __init__(self):
        self.predictor, self.residual, self.rank = Predictor(), Residual(), Residual()
        self.entries, self.worth, self.known, self.history = [], 48, even(4), 0

    def decode(self, coder):
        guess = self.predictor.guess()
        value = self.lookup(coder, guess)
        if value is None:
            value = i64(guess + self.residual.decode(coder))
            if self.worth > 0 and len(self.entries) < 64 and value not in self.entries:
                insort(self.entries, value)
        self.predictor.learn(value)
        return value

    def lookup(self, coder, guess):
        if self.worth == 0 or not self.entries:
            return None
        known = coder.answer(self.known[self.history])
        self.history = (2 * self.history + known) & 3
        if not known:
            self.worth -= 1
            return None
        self.worth = min(self.worth + 3, 192)
        start = bisect_left(self.entries, guess)
        if start == len(self.entries) or start > 0 and guess - self.entries[start - 1] <= self.entries[start] - guess:
            start -= 1
        index = start + self.rank.decode(coder)
        return self.entries[min(len(self.entries) - 1, max(0, index))]


class Device:
    def __init__(self, name, boot, tick):
        self.name, self.boot, self.tick = name, boot, tick
        self.residual, self.off, self.shrinks, self.next = Residual(), rare(1)[0], Odds(), 0


class Series:
    def __init__(self, device, channel, decimals):
        self.device, self.channel, self.decimals = device, channel, decimals
        self.usual, self.exact, self.same, self.quality, self.successor = Odds(), Odds(), Odds(), 0, None
        self.values, self.times, self.last = Values(), Predictor(), None


class Body:
    def __init__(self, body):
        self.coder = Coder(body)
        names = "successor new device_new channel_known next_seq same_quality regraded near".split()
        self.odds = {name: Odds() for name in names}
        self.rank, self.ulps, self.odd = Residual(), Residual(), Residual()
        self.letters, self.shared = even(128), rare(64)
        self.devices, self.series, self.order = [], [], []
        self.previous, self.before, self.d, self.c = None, 0, 0, 0

    def ask(self, name):
        return self.coder.answer(self.odds[name])

    def name(self, before):
        shared = self.coder.tree(self.shared, 6)
        demand(shared <= len(before), "a name shares too much")
        name = bytearray(before[:shared])
        while letter := self.coder.tree(self.letters, 7):
            demand(letter in LETTERS and len(name) < 64, "not a name")
            name.append(letter)
        demand(name, "an empty name")
        return bytes(name)

    def declare(self):
        if self.ask("device_new"):
            last = self.devices[-1] if self.devices else Device(b"", 0, 1)
            name = self.name(last.name)
            boot = (last.boot + self.odd.decode(self.coder)) % 2**64
            tick = self.odd.decode(self.coder)
            demand(tick >= 1, "no tick")
            self.d = len(self.devices)
            self.devices.append(Device(name, boot, tick))
        else:
            self.d += self.odd.decode(self.coder)
            demand(0 <= self.d < len(self.devices), "no such device")
        if self.ask("channel_known"):
            number = self.c + self.odd.decode(self.coder)
            demand(0 <= number < len(self.series), "no such series")
            channel, self.c = self.series[number].channel, number + 1
        else:
            channel = self.name(self.series[-1].channel if self.series else b"")
        decimals = self.coder.raw(4)
        demand(decimals <= 12, "too many decimals")
        self.series.append(Series(self.devices[self.d], channel, decimals))
        return self.series[-1]

    def choose(self, expected):
        if expected and self.ask("successor"):
            return expected
        if self.ask("new"):
            return self.declare()
        rank = self.rank.decode(self.coder)
        demand(0 <= rank < len(self.order), "no such series")
        return self.order[rank]

    def time(self, series):
        if self.coder.answer(series.same):
            return self.before
        device = series.device
        last, guess = (self.before, self.before) if series.last is None else (series.last, series.times.guess())
        guess = i64(guess - rem(i64(guess - last), device.tick))
        if self.coder.answer(device.off):
            missed = self.odd.decode(self.coder)
            if self.coder.answer(device.shrinks):
                device.tick = gcd(device.tick, missed)
            return i64(guess + missed)
        return i64(guess + device.tick * device.residual.decode(self.coder))

    def scaled(self, series):
        return float(series.values.decode(self.coder)) / 10.0**series.decimals

    def value(self, series, usual):
        if usual:
            return self.scaled(series)
        if self.ask("regraded"):
            series.decimals = self.coder.raw(4)
            demand(series.decimals <= 12, "too many decimals")
            series.values = Values()
        if self.coder.answer(series.exact):
            return self.scaled(series)
        if self.ask("near"):
            bits = struct.unpack("<Q", struct.pack("<d", self.scaled(series)))[0]
            bits = (bits + self.ulps.decode(self.coder)) % 2**64
        else:
            bits = self.coder.raw(64)
        return struct.unpack("<d", struct.pack("<Q", bits))[0]

    def reading(self):
        expected = self.previous.successor if self.previous else None
        usual = bool(expected) and self.coder.answer(expected.usual)
        series = expected if usual else self.choose(expected)
        device = series.device
        seq = device.next
        if not usual:
            if not self.ask("next_seq"):
                seq = (seq + self.odd.decode(self.coder)) % 2**64
            if not self.ask("same_quality"):
                series.quality = self.coder.raw(8)
        device.next = (seq + 1) % 2**64
        if self.previous:
            self.previous.successor = series
        self.previous = series
        if series in self.order:
            self.order.remove(series)
        self.order.append(series)
        at = self.time(series)
        series.times.learn(at)
        series.last = self.before = at
        value = None if series.quality & MISSING else self.value(series, usual)
        demand(self.coder.place <= len(self.coder.body) + 3, "the body is too short")
        return series, seq, at, value, series.quality


def crc32c(data):
    crc = 2**32 - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 2**32 - 1


def unstuff(data):
    out, at = bytearray(), 0
    while at < len(data):
        code = data[at]
        demand(code and at + code <= len(data), "damaged stuffing")
        out += data[at + 1 : at + code]
        at += code
        if code < 255 and at < len(data):
            out.append(0)
    return bytes(out)


def decode(stuffed):
    """The lines of a golden text: the header, then the readings."""
    data = unstuff(stuffed)
    demand(len(data) > 4 and crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"), "wrong checksum")
    demand(data[0] == 1, f"version {data[0]} is not known")
    data, at = data[:-4], 2 + data[1]
    gateway = data[2:at].decode()

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    boot, seq, sealed, uptime, readings = (varint() for _ in range(5))
    drops = [0] * 4
    for _ in range(varint()):
        cause, count = varint(), varint()
        if cause < len(drops):
            drops[cause] += count
    sealed = sealed >> 1 ^ -(sealed & 1)
    yield f"{gateway} {boot} {seq} {sealed} {uptime} {readings} {','.join(map(str, drops))}"
    body = Body(data[at:])
    for _ in range(readings):
        series, seq, at_ms, value, quality = body.reading()
        if quality & FROM_BOOT == FROM_BOOT:
            at_ms = i64(at_ms + sealed - uptime) if uptime else at_ms
            quality = quality & ~FROM_BOOT | (RESTAMPED if uptime else CLOCK_UNSET)
        bits = "-" if value is None else struct.pack(">d", value).hex()
        device, channel = series.device, series.channel.decode()
        yield f"{device.name.decode()} {device.boot} {channel} {seq} {at_ms} {bits} {quality}"
    demand(body.coder.place == len(body.coder.body) + 3, "bytes after the last reading")


def main(paths):
    failed = False
    for path in map(Path, paths):
        found = list(decode(bytes.fromhex(path.read_text())))
        same = found == path.with_suffix(".txt").read_text().splitlines()
        print(f"{path.name}: {len(found) - 1} readings, {'same' if same else 'DIFFERENT'}")
        failed |= not same
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
