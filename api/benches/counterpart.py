"""The same contract the way it is usually written: Flask and SQLAlchemy, to be served by gunicorn.

Written for the comparison. It is given what a careful author would give it: a connection pool, WAL, one query a
request, and no access log. Durability is the same as ours: SQLite with synchronous=FULL, PostgreSQL's default.
"""

import os

from flask import Flask, jsonify, request
from sqlalchemy import Boolean, String, create_engine, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ["DATABASE_URL"], pool_size=5)


@event.listens_for(engine, "connect")
def set_durability(connection, _record):
    """WAL, a flush for every commit, and patience with the other workers."""
    if engine.dialect.name == "sqlite":
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


class Base(DeclarativeBase):
    """The tables."""


class Task(Base):
    """One task."""

    __tablename__ = "tasks"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String, nullable=False)
    done: Mapped[bool] = mapped_column(Boolean, nullable=False, default=False)

    def as_dict(self):
        """The task as the contract shows it."""
        return {"id": self.id, "title": self.title, "done": self.done}


app = Flask(__name__)


def refuse(text, code):
    """A refusal."""
    return jsonify(error=text), code


@app.get("/tasks")
def list_tasks():
    """All tasks, with their number."""
    with Session(engine) as session:
        tasks = [task.as_dict() for task in session.scalars(select(Task).order_by(Task.id))]
    answer = jsonify(tasks)
    answer.headers["X-Total-Count"] = str(len(tasks))
    return answer


@app.get("/tasks/<int:number>")
def get_task(number):
    """One task."""
    with Session(engine) as session:
        task = session.get(Task, number)
        return jsonify(task.as_dict()) if task else refuse("Tarefa não encontrada", 404)


@app.post("/tasks")
def create_task():
    """Adds a task."""
    data = request.get_json(silent=True)
    title = data.get("title") if isinstance(data, dict) else None
    if not isinstance(title, str) or not title.strip():
        return refuse("O título é obrigatório", 400)
    with Session(engine) as session:
        task = Task(title=title.strip(), done=False)
        session.add(task)
        session.commit()
        return jsonify(task.as_dict()), 201


@app.put("/tasks/<int:number>")
def change_task(number):
    """Changes a task."""
    data = request.get_json(silent=True)
    if not isinstance(data, dict):
        return refuse("Dados inválidos", 400)
    with Session(engine) as session:
        task = session.get(Task, number)
        if task is None:
            return refuse("Tarefa não encontrada", 404)
        task.title = data.get("title", task.title)
        task.done = data.get("done", task.done)
        session.commit()
        return jsonify(task.as_dict())


@app.delete("/tasks/<int:number>")
def remove_task(number):
    """Deletes a task."""
    with Session(engine) as session:
        task = session.get(Task, number)
        if task is None:
            return refuse("Tarefa não encontrada", 404)
        session.delete(task)
        session.commit()
        return jsonify(result=True)


@app.get("/health")
def health():
    """The process lives."""
    return jsonify(status="healthy")


if __name__ == "__main__":
    Base.metadata.create_all(engine)
    with Session(engine) as fill:
        if not fill.scalar(select(func.count()).select_from(Task)):
            fill.add_all(Task(title=f"task number {number}", done=number % 2 == 0) for number in range(100))
            fill.commit()
