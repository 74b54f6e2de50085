"""Every operator of the unchanged SDK, over HTTP, TCP and embed, against plain recomputation."""

import random
import time

import beava as bv
import httpx
import naive
import pytest

from conftest import code_of, until


def payments(n, seed, keys=5, merchants=12):
    dice = random.Random(seed)
    return [{"user": f"u{dice.randrange(keys)}", "amount": dice.randrange(1, 4000) / 4, "items": dice.randrange(-9, 10),
             "merchant": f"m{int(merchants * dice.random() ** 2)}"} for _ in range(n)]


def declared(window):
    """The event and a table with every operator, over a lifetime or a window."""
    span = {"window": window} if window else {}

    @bv.event
    class Payment:
        user: str
        amount: float
        items: int
        merchant: str

    large = bv.col("amount") > 500
    mixed = ((bv.col("items") < 0) | (bv.col("merchant") == "m1")) & ~(bv.col("amount") * 2 <= 100)

    @bv.table(key="user")
    def Users(payment: Payment):
        features = {
            "n": bv.count(**span), "n_large": bv.count(where=large, **span), "n_mixed": bv.count(where=mixed, **span),
            "total": bv.sum("amount", **span), "total_large": bv.sum("amount", where=large, **span), "items": bv.sum("items", **span),
            "middle": bv.mean("amount", **span), "low": bv.min("amount", **span), "high": bv.max("amount", **span),
            "low_items": bv.min("items", **span), "first_name": bv.min("merchant", **span),
            "spread": bv.var("amount", **span), "deviation": bv.std("amount", **span), "share_large": bv.ratio(where=large, **span),
            "shops": bv.n_unique("merchant", **span), "half": bv.quantile("amount", q=0.5, **span), "p95": bv.quantile("amount", q=0.95, **span),
            "favourites": bv.top_k("merchant", k=3, **span),
        }
        if not window:
            features |= {"earliest": bv.first("merchant"), "latest": bv.last("amount")}
        return payment.group_by("user").agg(**features)

    return Payment, Users


def expected(rows, window):
    large = lambda row: row["amount"] > 500
    mixed = lambda row: (row["items"] < 0 or row["merchant"] == "m1") and not row["amount"] * 2 <= 100
    amounts, items, merchants = (naive.values(rows, field) for field in ("amount", "items", "merchant"))
    features = {
        "n": len(rows), "n_large": naive.count(rows, large), "n_mixed": naive.count(rows, mixed),
        "total": naive.total(amounts), "total_large": naive.total(naive.values(rows, "amount", large)), "items": naive.total(items),
        "middle": pytest.approx(naive.mean(amounts), rel=1e-12), "low": min(amounts), "high": max(amounts),
        "low_items": min(items), "first_name": min(merchants),
        "spread": pytest.approx(naive.var(amounts), rel=1e-9) if len(rows) > 1 else None,
        "deviation": pytest.approx(naive.std(amounts), rel=1e-9) if len(rows) > 1 else None,
        "share_large": pytest.approx(naive.ratio(rows, large), rel=1e-12),
        "shops": naive.n_unique(merchants), "half": pytest.approx(naive.quantile(amounts, 0.5), rel=1e-12),
        "p95": pytest.approx(naive.quantile(amounts, 0.95), rel=1e-12), "favourites": naive.top_k(merchants, 3),
    }
    if not window:
        features |= {"earliest": rows[0]["merchant"], "latest": rows[-1]["amount"]}
    return features


@pytest.mark.parametrize("window", [None, "1h", "30d"])
def test_every_operator_equals_plain_recomputation(app, window):
    app.register(*declared(window))
    rows = payments(400, seed=7)
    seen = {}
    for i, row in enumerate(rows):
        app.push("Payment", row)
        seen.setdefault(row["user"], []).append(row)
        # Also while a key has one, two, a few rows: small states answer by other code than grown ones.
        if i < 20 or i % 97 == 0:
            assert app.get("Users", row["user"]) == expected(seen[row["user"]], window)
    for user, mine in seen.items():
        assert app.get("Users", user) == expected(mine, window)


def test_operators_of_order_equal_plain_recomputation(app):
    """Streaks, kept values, changes, histograms: what the order of rows and their values decide."""
    near = lambda value: value if value is None else pytest.approx(value, rel=1e-9)
    large = lambda row: row["amount"] > 500

    @bv.event
    class Payment:
        user: str
        amount: float
        items: int
        merchant: str

    @bv.table(key="user")
    def Order(payment: Payment):
        condition = bv.col("amount") > 500
        return payment.group_by("user").agg(
            run=bv.streak(where=condition), longest=bv.max_streak(where=condition), others=bv.negative_streak(where=condition), rows=bv.streak(),
            never=bv.negative_streak(), seen=bv.has_seen(where=condition), lately=bv.first_seen_in_window(window="1h", where=condition),
            first_3=bv.first_n("merchant", n=3), last_3=bv.last_n("amount", n=3, where=condition), recent=bv.most_recent_n("items", n=4),
            before=bv.lag("amount", n=2), one_before=bv.lag("merchant"), step=bv.delta_from_prev("amount"),
            changed=bv.value_change_count("merchant", window="1h"), odd=bv.z_score("amount", baseline_window="1h"),
            spread=bv.entropy("merchant"), spread_1h=bv.entropy("merchant", window="1h"), mix=bv.event_type_mix("merchant"),
            some=bv.event_type_mix("merchant", categories=["m0", "m1"]), top=bv.event_type_mix("merchant", max_categories=1),
            cells=bv.histogram("amount", buckets=[100, 500.5, 900]), sample=bv.reservoir_sample("items", samples=1000))

    app.register(Payment, Order)
    seen = {}
    for i, row in enumerate(payments(300, seed=11)):
        app.push("Payment", row)
        mine = seen.setdefault(row["user"], [])
        mine.append(row)
        if i >= 20 and i % 31:
            continue
        amounts, items, merchants = (naive.values(mine, field) for field in ("amount", "items", "merchant"))
        run, others, longest = naive.run_of(mine, large)
        shares = naive.mix(merchants)
        got = app.get("Order", row["user"])
        assert sorted(got.pop("sample")) == sorted(items)
        assert got.pop("top").keys() <= shares.keys()
        assert got == {
            "run": run, "longest": longest, "others": others, "rows": len(mine), "never": 0, "seen": longest > 0, "lately": longest > 0,
            "first_3": merchants[:3], "last_3": naive.values(mine, "amount", large)[-3:], "recent": items[-4:],
            "before": naive.lag(amounts, 2), "one_before": naive.lag(merchants, 1),
            "step": amounts[-1] - amounts[-2] if len(mine) > 1 else None, "changed": naive.changes(merchants),
            "odd": near(naive.z_score(amounts)), "spread": pytest.approx(naive.entropy(merchants), abs=1e-12),
            "spread_1h": pytest.approx(naive.entropy(merchants), abs=1e-12), "mix": pytest.approx(shares),
            "some": pytest.approx({name: share for name, share in shares.items() if name in ("m0", "m1")}),
            "cells": naive.histogram(amounts, [100, 500.5, 900]),
        }


def test_operators_of_time_follow_the_clock(app):
    """The time of a pushed row is that of its arrival, which the client knows from both sides."""

    @bv.event
    class Tick:
        who: str
        x: float

    @bv.table(key="who")
    def Times(tick: Tick):
        return tick.group_by("who").agg(
            first=bv.first_seen(), last=bv.last_seen(), age=bv.age(), since=bv.time_since(), since_2=bv.time_since_last_n(n=2),
            since_9=bv.time_since_last_n(n=9), gap=bv.inter_arrival_stats(window="1h"), rate=bv.rate_of_change("x", window="1h"),
            trend=bv.trend("x", window="1h"), off=bv.trend_residual("x", window="1h"), burst=bv.burst_count(window="1h", sub_window="10m"),
            hours=bv.hour_of_day_histogram(), week=bv.dow_hour_histogram(), season=bv.seasonal_deviation("x"))

    app.register(Tick, Times)
    now = lambda: int(time.time() * 1000)
    pushed = []
    for x in (1.0, 2.0, 4.0):
        before = now()
        app.push("Tick", {"who": "a", "x": x})
        pushed.append((before, now()))
        while now() < pushed[-1][1] + 20:
            pass
    before = now()
    row = app.get("Times", "a")
    after = now()
    within = lambda value, low, high: low - 1 <= value <= high + 1
    first, middle, last = pushed
    assert within(row["first"], *first) and within(row["last"], *last)
    assert within(row["age"], before - first[1], after - first[0]) and within(row["since"], before - last[1], after - last[0])
    assert within(row["since_2"], before - middle[1], after - middle[0]) and row["since_9"] is None
    assert within(row["gap"], (last[0] - first[1]) / 2, (last[1] - first[0]) / 2)
    assert 2 / (last[1] - middle[0] + 1) <= row["rate"] <= 2 / max(last[0] - middle[1] - 1, 1)
    assert 0 < row["trend"] < 1 and abs(row["off"]) < 1
    assert sum(row["hours"]) == 3 and sum(row["week"].values()) == 3 and len(row["week"]) == 168
    assert 1 <= row["burst"] <= 3
    assert app.get("Times", "nobody") == {}


def test_what_fades_follows_the_clock(app):
    """Weights halve every 200 ms between arrivals, of which the client knows the earliest and the latest time."""

    @bv.event
    class Tick:
        who: str
        x: float

    @bv.table(key="who")
    def Faded(tick: Tick):
        half = {"half_life": "200ms"}
        return tick.group_by("who").agg(
            usual=bv.ewma("x", **half), same=bv.ema("x", **half), spread=bv.ewvar("x", **half), odd=bv.ew_zscore("x", **half),
            total=bv.decayed_sum("x", **half), n=bv.decayed_count(**half), n_large=bv.decayed_count(where=bv.col("x") > 3, **half),
            none=bv.decayed_count(where=bv.col("x") > 9, **half), held=bv.twa("x", window="1h"))

    app.register(Tick, Faded)
    now = lambda: int(time.time() * 1000)
    left = lambda ms: 0.5 ** (max(ms, 0) / 200)
    app.push("Tick", {"who": "one", "x": 3.0})
    row = app.get("Faded", "one")
    assert (row["usual"], row["spread"], row["odd"], row["held"], row["none"]) == (3.0, 0.0, None, 3.0, None)
    pushed = []
    for x in (1.0, 2.0, 4.0):
        before = now()
        app.push("Tick", {"who": "a", "x": x})
        pushed.append((x, before - 1, now() + 1))
        while now() < pushed[-1][2] + 20:
            pass
    before = now() - 1
    row = app.get("Faded", "a")
    after = now() + 1
    # Numbers rise, so the mean rises with every gap.
    least = most = 1.0
    for (_, early, late), (x, next_early, next_late) in zip(pushed, pushed[1:]):
        least = x + (least - x) * left(next_early - late)
        most = x + (most - x) * left(next_late - early)
    assert least - 1e-9 <= row["usual"] == row["same"] <= most + 1e-9
    assert 0 < row["spread"] <= 2.25 and row["odd"] > 0
    at = lambda time_ms, numbers, end: sum(x * left(time_ms - times[end]) for x, *times in numbers)
    ones = [(1.0, *times) for _, *times in pushed]
    for name, numbers in (("total", pushed), ("n", ones), ("n_large", ones[-1:])):
        assert at(after, numbers, 0) - 1e-9 <= row[name] <= at(before, numbers, 1) + 1e-9, name
    assert row["none"] is None and 1.0 < row["held"] < 2.0
    # It fades while nothing comes.
    assert until(True, lambda: app.get("Faded", "a")["n"] < row["n"] / 2)
    assert app.get("Faded", "a")["usual"] == row["usual"]


def test_places_equal_plain_recomputation(app):
    @bv.event
    class Fix:
        who: str
        north: float
        east: float
        large: int

    @bv.table(key="who")
    def Places(fix: Fix):
        place = {"lat": "north", "lon": "east"}
        return fix.group_by("who").agg(
            kmh=bv.geo_velocity(**place), path=bv.geo_distance(**place), spread=bv.geo_spread(**place),
            home=bv.distance_from_home(**place), home_3=bv.distance_from_home(samples=3, **place),
            large=bv.geo_distance(where=bv.col("large") == 1, **place))

    app.register(Fix, Places)
    dice = random.Random(5)
    seen = []
    for i in range(150):
        # Some are on earth, some are what receivers write that have no place.
        place = (dice.uniform(-90, 90), dice.uniform(-180, 180)) if i % 5 else dice.choice([(91.0, 181.0), (0.0, 999.0), (-90.5, 0.0)])
        large = dice.randrange(2)
        app.push("Fix", {"who": "a", "north": place[0], "east": place[1], "large": large})
        if i % 5:
            seen.append((place, large))
        if i >= 12 and i % 37:
            continue
        row = app.get("Places", "a")
        places = [place for place, _ in seen]
        kmh = row.pop("kmh")
        assert kmh is None if not places else kmh == 0.0 if len(places) == 1 else kmh >= 0.0
        near = lambda number: None if number is None else pytest.approx(number, rel=1e-9, abs=1e-9)
        assert row == {
            "path": near(naive.path(places)), "spread": near(naive.spread(places)),
            "home": near(naive.from_home(places, 100)) if places else None, "home_3": near(naive.from_home(places, 3)) if places else None,
            "large": near(naive.path([place for place, large in seen if large])),
        }


def test_sketches_stay_within_their_bounds(app):
    @bv.event
    class Visit:
        page: str
        took: float

    @bv.table(key="page")
    def Pages(visit: Visit):
        return visit.group_by("page").agg(visitors=bv.n_unique("took"), p90=bv.quantile("took", q=0.9), often=bv.top_k("took", k=2))

    app.register(Visit, Pages)
    dice = random.Random(3)
    took = [dice.uniform(1, 1000) for _ in range(3000)]
    for value in took:
        app.push("Visit", {"page": "p", "took": value})
    row = app.get("Pages", "p")
    assert row["visitors"] == pytest.approx(len(set(took)), rel=0.065)
    assert row["p90"] == pytest.approx(naive.at_rank(took, 0.9), rel=0.0101)
    assert len(row["often"]) == 2


def test_outliers_are_measured_by_the_numbers_before_them(app):
    @bv.event
    class Payment:
        user: str
        amount: float
        items: int
        merchant: str

    @bv.table(key="user")
    def Odd(payment: Payment):
        return payment.group_by("user").agg(
            hour=bv.outlier_count("amount", window="1h", sigma=1.234567), month=bv.outlier_count("amount", window="30d", sigma=2.345678),
            ever=bv.outlier_count("amount", window="forever", sigma=1.234567),
            large=bv.outlier_count("items", window="1h", sigma=0.987654, where=bv.col("amount") > 500))

    app.register(Payment, Odd)
    seen = {}
    for i, row in enumerate(payments(400, seed=13)):
        app.push("Payment", row)
        mine = seen.setdefault(row["user"], [])
        mine.append(row)
        if i >= 40 and i % 41:
            continue
        amounts = naive.values(mine, "amount")
        assert app.get("Odd", row["user"]) == {
            "hour": naive.outliers(amounts, 1.234567), "month": naive.outliers(amounts, 2.345678), "ever": naive.outliers(amounts, 1.234567),
            "large": naive.outliers(naive.values(mine, "items", lambda row: row["amount"] > 500), 0.987654)}


def test_a_set_knows_whether_it_is_empty(app):
    @bv.event
    class Login:
        user: str
        device: str
        ok: int

    @bv.table(key="user")
    def Devices(login: Login):
        return login.group_by("user").agg(seen=bv.bloom_member("device"), failed=bv.bloom_member("device", where=bv.col("ok") == 0))

    app.register(Login, Devices)
    app.push("Login", {"user": "a", "device": "d1", "ok": 1})
    assert app.get("Devices", "a") == {"seen": True, "failed": False}
    app.push("Login", {"user": "a", "device": "d2", "ok": 0})
    assert app.get("Devices", "a") == {"seen": True, "failed": True}
    assert app.get("Devices", "b") == {}


@pytest.mark.gauge_only
def test_a_set_is_asked_for_values(start):
    @bv.event
    class Login:
        user: str
        device: str
        place: int

    server = start()
    with bv.App(f"http://{server.http}") as app:
        app.register(Login, {
            "kind": "derivation", "name": "Devices", "output_kind": "table", "upstreams": ["Login"], "table_primary_key": ["user"],
            "ops": [{"op": "group_by", "keys": ["user"], "agg": {
                "device": {"op": "bloom_member", "params": {"field": "device", "capacity": 100, "fpr": 0.001}},
                "place": {"op": "bloom_member", "params": {"field": "place"}}, "n": {"op": "count", "params": {}}}}],
            "schema": {"fields": {}, "optional_fields": []}})
        for i in range(300):
            app.push("Login", {"user": "a|b", "device": f"d{i}", "place": i})
    ask = lambda **body: httpx.post(f"http://{server.http}/member", json={"table": "Devices", "key": "a|b", **body}, timeout=10)
    asked = ask(feature="device", values=[f"d{i}" for i in range(300)])
    assert (asked.status_code, asked.json()) == (200, {"results": [True] * 300, "fpr": 0.001})
    found = ask(feature="place", values=[0, 299, 299.0, 300, -1, None, "7"]).json()["results"]
    assert found[:3] == [True] * 3 and found[5:] == [False, True] and len(found) == 7
    others = ask(feature="place", values=list(range(10**6, 10**6 + 1000))).json()["results"]
    assert sum(others) < 40, "one in a hundred is found though it never came"
    assert ask(feature="place", values=[1], key="nobody").json()["results"] == [False]
    row = httpx.get(f"http://{server.http}/tables/Devices/a%7Cb", params=[("member.device", "d7"), ("member.device", "x")], timeout=10)
    assert row.json() == {"results": [True, False], "fpr": 0.001}
    for refused, code in [
        (ask(feature="n", values=[1]), "invalid_request"), (ask(feature="gone", values=[1]), "feature_not_found"),
        (ask(feature="place", values=["x"]), "invalid_request"), (ask(feature="place", values=[{}]), "invalid_request"),
        (ask(feature="place", values=[0] * 1025), "batch_too_large"), (ask(feature="place", values=[1], table="T"), "unknown_table"),
        (ask(feature="place"), "invalid_request"),
    ]:
        assert refused.json()["error"]["code"] == code, refused.text


@pytest.mark.gauge_only
def test_a_set_without_bound_is_refused(app):
    def table(**params):
        return {"kind": "derivation", "name": "T", "output_kind": "table", "upstreams": ["Login"], "table_primary_key": ["user"],
                "ops": [{"op": "group_by", "keys": ["user"], "agg": {"seen": {"op": "bloom_member", "params": {"field": "user", **params}}}}]}

    event = {"kind": "event", "name": "Login", "schema": {"fields": {"user": "str"}, "optional_fields": []}}
    for params, code in [
        ({"capacity": 10**12}, "aggregation_invalid_param"), ({"expected_n": 1_000_000}, "aggregation_invalid_param"),
        ({"fpr": 0}, "invalid_bloom_fpr"), ({"target_fpr": 1e-9}, "invalid_bloom_fpr"), ({"window": "1h"}, "window_not_supported"),
    ]:
        assert code_of(app.register, event, table(**params)) == code, params
    app.register(event, table(capacity=1000, fpr=0.5))


def test_a_window_forgets(app):
    @bv.event
    class Tick:
        who: str
        x: float

    @bv.table(key="who")
    def Ticks(tick: Tick):
        return tick.group_by("who").agg(n=bv.count(window="2s"), total=bv.sum("x", window="2s"), high=bv.max("x", window="2s"),
                                        kinds=bv.n_unique("x", window="2s"), often=bv.top_k("x", window="2s", k=3), ever=bv.count())

    app.register(Tick, Ticks)
    for x in (1.0, 2.0, 2.0):
        app.push("Tick", {"who": "a", "x": x})
    assert app.get("Ticks", "a") == {"n": 3, "total": 5.0, "high": 2.0, "kinds": 2, "ever": 3,
                                     "often": [{"count": 2, "value": 2.0}, {"count": 1, "value": 1.0}]}
    gone = {"n": 0, "total": None, "high": None, "kinds": 0, "often": [], "ever": 3}
    assert until(gone, lambda: app.get("Ticks", "a")) == gone


def test_nothing_matched_gives_the_empty_values(app):
    app.register(*declared(None))
    app.push("Payment", {"user": "a", "amount": 1.0, "items": 1, "merchant": "x"})
    row = app.get("Users", "a")
    assert (row["n_large"], row["total_large"], row["share_large"], row["spread"]) == (0, None, 0.0, None)
    assert app.get("Users", "nobody") == {}


def test_composite_and_global_keys(app):
    @bv.event
    class Sale:
        shop: str
        day: int
        amount: float

    @bv.table(key=["shop", "day"])
    def Daily(sale: Sale):
        return sale.group_by("shop", "day").agg(total=bv.sum("amount"))

    @bv.table
    def Everything(sale: Sale):
        return sale.agg(n_all=bv.count())

    app.register(Sale, Daily, Everything)
    for shop, day, amount in (("a", 1, 1.5), ("a", 2, 2.0), ("b", 1, 4.0), ("a", 1, 1.0)):
        app.push("Sale", {"shop": shop, "day": day, "amount": amount})
    assert app.get("Daily", "a|1") == {"total": 2.5}
    assert app.get("Daily", "b|1") == {"total": 4.0}
    assert app.get("Everything") == {"n_all": 4}


def test_chains_filter_and_compute(app):
    @bv.event
    class Order:
        who: str
        price: float
        pieces: int

    @bv.table(key="who")
    def Buyers(order: Order):
        return (order.filter(bv.col("pieces") > 0).with_columns(cost=bv.col("price") * bv.col("pieces"))
                .group_by("who").agg(cost=bv.sum("cost"), orders=bv.count()))

    app.register(Order, Buyers)
    for price, pieces in ((2.0, 3), (9.0, 0), (0.5, 4)):
        app.push("Order", {"who": "a", "price": price, "pieces": pieces})
    assert app.get("Buyers", "a") == {"cost": 8.0, "orders": 2}


@pytest.mark.gauge_only
def test_integers_and_awkward_keys_are_exact(app):
    @bv.event
    class Reading:
        meter: int
        used: int

    @bv.table(key="meter")
    def Meters(reading: Reading):
        return reading.group_by("meter").agg(used=bv.sum("used"), n=bv.count())

    @bv.event
    class Note:
        name: str

    @bv.table(key="name")
    def Notes(note: Note):
        return note.group_by("name").agg(n_notes=bv.count())

    app.register(Reading, Meters, Note, Notes)
    # In binary floating point 2**53 + 1 is 2**53: only an exact sum arrives at 2**53 + 2.
    for used in (2**53, 1, 1):
        app.push("Reading", {"meter": -7, "used": used})
    assert app.get("Meters", -7) == app.get("Meters", "-7") == app.get("Meters", [-7]) == {"used": float(2**53 + 2), "n": 3}
    for name in ("a|b", "", "ü/ß", "a b?c=d&e#f", "%2F"):
        app.push("Note", {"name": name})
        assert app.get("Notes", name) == {"n_notes": 1}, name


@pytest.mark.gauge_only
def test_literals_of_every_spelling_match(app):
    @bv.event
    class Word:
        text: str
        weight: float

    @bv.table(key="text")
    def Words(word: Word):
        return word.group_by("text").agg(quoted=bv.count(where=bv.col("text") == "it's"), foreign=bv.count(where=bv.col("text") == "größe"),
                                         tiny=bv.count(where=bv.col("weight") < 1e-05), huge=bv.count(where=bv.col("weight") > 1e16))

    app.register(Word, Words)
    for text, weight in (("it's", 1e-6), ("größe", 1e17)):
        app.push("Word", {"text": text, "weight": weight})
    assert app.get("Words", "it's") == {"quoted": 1, "foreign": 0, "tiny": 1, "huge": 0}
    assert app.get("Words", "größe") == {"quoted": 0, "foreign": 1, "tiny": 0, "huge": 1}
