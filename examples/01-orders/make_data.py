"""Makes the order files of this example, always the same: `python examples/01-orders/make_data.py`.

Two months of orders of a shop, 2,000 in all, as such exports look: some rows came twice, some lack an amount,
currencies and numbers are written in several ways. A third file is a broken export: not one usable row.
"""

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

DATA = Path(__file__).parent / "data"
COLUMNS = ("order_id", "ordered_at", "updated_at", "customer", "country", "sku", "quantity", "amount", "currency")
SKUS = {
    "KETTLE-1.7L": 39.90,
    "MUG-BLUE": 9.50,
    "PAN-28CM": 54.00,
    "KNIFE-CHEF": 72.25,
    "TOWEL-LINEN": 14.80,
    "SCALE-DIGITAL": 27.00,
    "GRINDER-BURR": 129.00,
}
COUNTRIES = {"NO": "NOK", "SE": "SEK", "DE": "EUR", "NL": "EUR", "FR": "EUR", "GB": "GBP", "US": "USD"}
RATES = {"EUR": 1.0, "NOK": 11.4, "SEK": 11.2, "GBP": 0.86, "USD": 1.09}
SIGNS = {"EUR": "€", "GBP": "£", "USD": "$"}
PER_MONTH = 1000


def main() -> None:
    """Write all files."""
    rng = random.Random(20260131)
    first = month(rng, datetime(2026, 1, 1, tzinfo=UTC), 1)
    second = month(rng, datetime(2026, 2, 1, tzinfo=UTC), 1 + PER_MONTH)
    late = [dict(row) for row in rng.sample(first[-100:], 20)]  # corrected in the next month's file
    for row in late:
        row["quantity"] = str(int(row["quantity"]) + 1)
        row["amount"] = f"{float(row['amount']) / (int(row['quantity']) - 1) * int(row['quantity']):.2f}"
        row["updated_at"] = "2026-02-03T08:00:00Z"
    DATA.mkdir(exist_ok=True)
    write("orders-2026-01.csv", soiled(rng, first))
    write("orders-2026-02.csv", soiled(rng, second + late))
    write("orders-broken.csv", [{**row, "amount": "", "currency": "?"} for row in second[:25]])


def month(rng: random.Random, start: datetime, number: int) -> list[dict[str, str]]:
    """Return clean orders of one month in the order of time."""
    moments = sorted(start + timedelta(seconds=rng.randrange(28 * 86_400)) for _ in range(PER_MONTH))
    return [order(rng, f"O-{number + index:06d}", moment) for index, moment in enumerate(moments)]


def order(rng: random.Random, order_id: str, moment: datetime) -> dict[str, str]:
    """Return one clean order."""
    country = rng.choices(list(COUNTRIES), (3, 2, 4, 2, 2, 2, 1))[0]
    currency = COUNTRIES[country]
    sku = rng.choice(list(SKUS))
    quantity = rng.choices((1, 2, 3, 6, 12), (60, 20, 10, 7, 3))[0]
    at = moment.isoformat().replace("+00:00", "Z")
    return {
        "order_id": order_id,
        "ordered_at": at,
        "updated_at": at,
        "customer": f"C-{rng.randrange(1, 320):04d}",
        "country": country,
        "sku": sku,
        "quantity": str(quantity),
        "amount": f"{SKUS[sku] * quantity * RATES[currency]:.2f}",
        "currency": currency,
    }


def soiled(rng: random.Random, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows as an export writes them: about one in twenty has something wrong with it, a few come twice."""
    written = []
    for clean in rows:
        row = dict(clean)
        match rng.randrange(120):
            case 0:
                row["amount"] = ""
            case 1:
                row["currency"] = row["currency"].lower() + " "
            case 2:
                row["currency"] = SIGNS.get(row["currency"], row["currency"])
            case 3:
                row["amount"] = f"{float(row['amount']):,.2f}"  # 1,204.50
            case 4:
                row["amount"] = row["amount"].replace(".", ",")  # 1204,50
            case 5:
                row["customer"] = f"  {row['customer']} "
            case 6:
                row["currency"] = "XXX"
            case 7:
                row["amount"] = "-" + row["amount"]
        written.append(row)
        if rng.randrange(80) == 0:
            written.append(dict(row))
    return written


def write(name: str, rows: list[dict[str, str]]) -> None:
    """Write one CSV file."""
    with (DATA / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
