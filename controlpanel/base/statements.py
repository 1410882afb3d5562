"""The ORM's plainest statements, compiled once: INSERT a row, UPDATE named fields, SELECT by one unique field.

The same fields, conversions and column types as Model.save and QuerySet.get, without building and compiling a query each
time: a fifth of the time, on the path of every ``docker run``. No signals, no inheritance, no deferred fields.

A value of the very type its column has goes in as it is, and JSON by orjson; anything else, and all of it on other databases than
SQLite, passes through the field's own conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from typing import Any, Final, TypeVar

import orjson
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

M = TypeVar("M", bound=models.Model)
_Field = Any  # models.Field, whose stubs know neither column nor model
_Value = Callable[[models.Model], Any]
_Convert = Callable[[Any], Any]

_PLAIN: Final[dict[type[Any], type[Any]]] = {
    models.AutoField: int, models.BigAutoField: int, models.BigIntegerField: int, models.IntegerField: int,
    models.BooleanField: bool, models.CharField: str, models.TextField: str,
}  # fmt: skip


def insert(row: models.Model) -> None:
    """As ``row.save(force_insert=True)``; sets a generated primary key. IntegrityError spoils the transaction on PostgreSQL."""
    connection = connections[DEFAULT_DB_ALIAS]
    statement, values, generated = _insert(type(row), connection.vendor)
    found = _execute(connection, statement, [value(row) for value in values], fetch=bool(generated))
    if generated:
        setattr(row, generated, found[0])
    row._state.adding = False
    row._state.db = DEFAULT_DB_ALIAS


def update(row: models.Model, *names: str, only_if: tuple[str, Any] | None = None) -> bool:
    """As ``row.save(update_fields=names)``; with ``only_if`` (field, value) the stored row must have that value. Whether it was written."""
    connection = connections[DEFAULT_DB_ALIAS]
    statement, values = _update(type(row), names, only_if[0] if only_if else "", connection.vendor)
    given = [value(row) for value in values]
    if only_if:
        given.append(_prepared(type(row), only_if[0], connection.vendor)(only_if[1]))
    return bool(_execute(connection, statement, given))


def delete(row: models.Model) -> None:
    """As ``row.delete()`` of a row that no foreign key points to."""
    connection = connections[DEFAULT_DB_ALIAS]
    statement, value = _delete(type(row), connection.vendor)
    _execute(connection, statement, [value(row)])


def get(model: type[M], name: str, value: Any, *, lock: bool = False) -> M | None:
    """The row whose ``name`` is ``value``, or None. ``lock`` keeps it from other transactions (PostgreSQL; SQLite has one writer)."""
    connection = connections[DEFAULT_DB_ALIAS]
    statement, names, converters = _select(model, name, lock, connection.vendor)
    found = _execute(connection, statement, [_prepared(model, name, connection.vendor)(value)], fetch=True)
    if found is None:
        return None
    values = list(found)
    for place, converter in converters:
        values[place] = converter(values[place])
    return model.from_db(DEFAULT_DB_ALIAS, names, values)


def _execute(connection: BaseDatabaseWrapper, statement: str, values: list[Any], *, fetch: bool = False) -> Any:
    """The row fetched, or how many were written. On SQLite past Django's cursor, which rewrites the marks of each statement anew."""
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone() if fetch else cursor.rowcount
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors:
        plain = connection.connection.execute(statement, values)
        try:
            return plain.fetchone() if fetch else plain.rowcount
        finally:
            plain.close()


@cache
def _insert(model: type[models.Model], vendor: str) -> tuple[str, list[_Value], str]:
    """Statement, values, and the name of the key that the database makes, or ""."""
    key = model._meta.pk
    generated = isinstance(key, models.AutoField)
    fields = [field for field in model._meta.concrete_fields if not (generated and field is key)]
    marks = ", ".join([_mark(vendor)] * len(fields))
    statement = f"INSERT INTO {_quoted(model._meta.db_table)} ({_quoted(*[field.column for field in fields])}) VALUES ({marks})"
    values = [_value(field, vendor, adding=True) for field in fields]
    return statement + (f" RETURNING {_quoted(key.column)}" if generated else ""), values, key.attname if generated else ""


@cache
def _update(model: type[models.Model], names: tuple[str, ...], condition: str, vendor: str) -> tuple[str, list[_Value]]:
    fields: list[_Field] = [model._meta.get_field(name) for name in names]
    changes = ", ".join(f"{_quoted(field.column)} = {_mark(vendor)}" for field in fields)
    statement = f"UPDATE {_quoted(model._meta.db_table)} SET {changes} WHERE {_quoted(model._meta.pk.column)} = {_mark(vendor)}"
    if condition:
        column: _Field = model._meta.get_field(condition)
        statement += f" AND {_quoted(column.column)} = {_mark(vendor)}"
    return statement, [_value(field, vendor) for field in (*fields, model._meta.pk)]


@cache
def _delete(model: type[models.Model], vendor: str) -> tuple[str, _Value]:
    key = model._meta.pk
    return f"DELETE FROM {_quoted(model._meta.db_table)} WHERE {_quoted(key.column)} = {_mark(vendor)}", _value(key, vendor)


@cache
def _select(model: type[models.Model], name: str, lock: bool, vendor: str) -> tuple[str, list[str], list[tuple[int, _Convert]]]:
    """Statement, names of what it gives, and the places of what needs a conversion."""
    connection, fields = connections[DEFAULT_DB_ALIAS], model._meta.concrete_fields
    where: _Field = model._meta.get_field(name)
    columns = _quoted(*[field.column for field in fields])
    statement = f"SELECT {columns} FROM {_quoted(model._meta.db_table)} WHERE {_quoted(where.column)} = {_mark(vendor)}"
    converters = [(place, convert) for place, field in enumerate(fields) for convert in _read(field, connection)]
    for_update = " FOR UPDATE" if lock and connection.features.has_select_for_update else ""
    return statement + for_update, [field.attname for field in fields], converters


def _read(field: _Field, connection: BaseDatabaseWrapper) -> list[_Convert]:
    if type(field) is models.JSONField and connection.vendor == "sqlite":
        return [lambda text: None if text is None else orjson.loads(text)]
    expression = field.get_col(field.model._meta.db_table)
    converters = (*connection.ops.get_db_converters(expression), *expression.get_db_converters(connection))
    return [partial(_converted, converter, expression) for converter in converters]


def _converted(converter: Callable[..., Any], expression: Any, value: Any) -> Any:
    return converter(value, expression, connections[DEFAULT_DB_ALIAS])


def _value(field: _Field, vendor: str, *, adding: bool = False) -> _Value:
    """What to write of a row for ``field``."""
    prepared = _prepared(field.model, field.name, vendor)
    if type(field).pre_save is models.Field.pre_save:
        given = attrgetter(field.attname)
        return lambda row: prepared(given(row))
    return lambda row: prepared(field.pre_save(row, adding))


@cache
def _prepared(model: type[models.Model], name: str, vendor: str) -> _Convert:
    """From a field's value to what the database takes."""
    field: _Field = model._meta.get_field(name)
    target = field.target_field if isinstance(field, models.ForeignKey) else field
    plain, is_json = _PLAIN.get(type(target)), type(field) is models.JSONField

    def prepare(value: Any) -> Any:
        if vendor == "sqlite":
            if type(value) is plain or value is None:
                return value
            if is_json:
                return orjson.dumps(value).decode()
        return field.get_db_prep_save(value, connections[DEFAULT_DB_ALIAS])

    return prepare


def _mark(vendor: str) -> str:
    return "?" if vendor == "sqlite" else "%s"


def _quoted(*names: str | None) -> str:
    return ", ".join(connections[DEFAULT_DB_ALIAS].ops.quote_name(name or "") for name in names)
