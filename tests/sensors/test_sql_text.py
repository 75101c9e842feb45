"""Queries as people write them: where `:high` stands, and what is refused before anything is asked."""

import pytest

from sensors.adapters.sql_text import quoted, read_statement, table_query


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("select * from t where at >= :high", "select * from t where at >= ?"),
        ("select * from t where at >= :high;", "select * from t where at >= ?"),
        ("select * from t where at >= :high::timestamptz", "select * from t where at >= ?::timestamptz"),
        (
            "select ':high', \":high\", a::text from t where at>=:high",
            "select ':high', \":high\", a::text from t where at>=?",
        ),
        ("select 'it''s :high' from t where at >= :high", "select 'it''s :high' from t where at >= ?"),
        (r"select E'\':high' from t where at >= :high", r"select E'\':high' from t where at >= ?"),
        (
            "select $$ :high $$, $x$ $$:high$x$ from t where at >= :high",
            "select $$ :high $$, $x$ $$:high$x$ from t where at >= ?",
        ),
        ("select 1 -- :high ; \nfrom t where at >= :high", "select 1 -- :high ; \nfrom t where at >= ?"),
        ("select 1 /* :high /* ; */ */ from t where at >= :high -- end", "select 1   from t where at >= ? -- end"),
        ("select a[1:2] from t where at >= :high", "select a[1:2] from t where at >= ?"),
        (
            "with x as (select 1 limit 1) select * from x where at >= :high",
            "with x as (select 1 limit 1) select * from x where at >= ?",
        ),
        ("(select * from t where at >= :high and b > :high)", "(select * from t where at >= ? and b > ?)"),
    ],
)
def test_only_parameters_are_replaced(text: str, sent: str) -> None:
    """Strings, quoted names, dollar quotes, nested comments, casts and slices are left as they are."""
    assert read_statement(text).text(lambda: "?") == sent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select * from t", "it does not use :high"),
        ("select * from t where at >= ':high'", "it does not use :high"),
        ("select * from t where at >= :low", "there is no parameter :low, only :high"),
        ("select a[lo:hi] from t where at >= :high", "a colon in a slice needs a space"),
        ("select 1 where 1 >= :high; drop table t", "more than one statement"),
        ("delete from t where at >= :high", "must begin with select"),
        ("/* select */ update t set a = 1 where at >= :high", "must begin with select"),
        ("", "must begin with select"),
        ("select * from t where at >= :high limit 10", "take out limit"),
        ("select * from t where at >= :high OFFSET 3", "take out offset"),
        ("select * from t where at >= :high fetch  first 5 rows only", "take out fetch  first"),
        ("select 'a from t where at >= :high", "a ' is not closed"),
        ("select $q$ a from t where at >= :high", r"a \$q\$ is not closed"),
        ("select 1 /* a from t where at >= :high", "a comment is not closed"),
    ],
)
def test_what_is_no_single_query_is_refused(text: str, said: str) -> None:
    """Each with a sentence that says what would be right."""
    with pytest.raises(ValueError, match=said):
        read_statement(text)


def test_names_of_a_table_are_taken_exactly() -> None:
    """Whatever is in a name is part of the name, so none can become another statement."""
    hostile = 'a"; drop table b; --'
    query = table_query(f"public.{hostile}", ["id", "Size"], "at")

    assert query == 'select "id", "Size" from "public"."a""; drop table b; --" where "at" >= :high'
    assert read_statement(query).text(lambda: "?").endswith('"at" >= ?')
    assert quoted('"') == '""""'
