"""``hmpc benchmark``: every rule on every case over several seeds; summary, table and figure."""
