"""A Core statement compiled once and run as driver SQL: the hot path pays for the database, not for the compiler.

Only for statements whose values need no conversion and are all given (Core's column defaults do not apply).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult, Insert, Select, Table, Update, bindparam, insert
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """`order` of the values where the driver counts them (None: it names them); `constants` are the statement's own."""

    sql: str
    order: tuple[str, ...] | None
    constants: dict[str, Any]

    def arrange(self, values: Values) -> Any:
        if self.constants:
            values = {**self.constants, **values}
        return values if self.order is None else tuple([values[name] for name in self.order])


class Prepared:
    """`statement` with its bind parameters; compiled for each dialect when it is first run there."""

    def __init__(self, statement: Insert | Update | Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Values) -> CursorResult[Any]:
        """Run it with one set of values."""
        compiled = self._compiled.get(connection.dialect.name) or self._compile(connection)
        return connection.exec_driver_sql(compiled.sql, compiled.arrange(values))

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run it once for each of `rows`, of which there is at least one."""
        compiled = self._compiled.get(connection.dialect.name) or self._compile(connection)
        connection.exec_driver_sql(compiled.sql, [compiled.arrange(row) for row in rows])

    def _compile(self, connection: Connection) -> _Compiled:
        compiled = self._statement.compile(dialect=connection.dialect)
        assert isinstance(compiled, SQLCompiler)
        order = tuple(compiled.positiontup) if compiled.positiontup is not None else None
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        made = self._compiled[connection.dialect.name] = _Compiled(str(compiled), order, constants)
        return made


def prepare_insert(table: Table, *but: str) -> Prepared:
    """An insert of every column of `table` except those in `but`."""
    columns = [column.name for column in table.columns if column.name not in but]
    return Prepared(insert(table).values({name: bindparam(name) for name in columns}))
