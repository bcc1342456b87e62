"""A BPM with one input, and a case in it: python toy.py http://127.0.0.1:8080"""

import html
import sys

from adapter import Adapter


class Toy:
    """What an adapter needs of a BPM: the screen as HTML, and a way to do an action."""

    def __init__(self) -> None:
        self.city = ""

    def screen(self) -> str:
        field = f'<input name="city" value="{html.escape(self.city)}">'
        return f"<html><body><h1>Toy</h1><label>City {field}</label></body></html>"

    def do(self, action: dict) -> None:
        if (action["tool"], action["control_id"]) != ("fill_input", "city"):
            raise ValueError("there is no such control")
        self.city = action["value"]


if __name__ == "__main__":
    case = Adapter(sys.argv[1], "toy-1", Toy(), "ann")
    case.add("session_opened", metadata={"domain": "toy"}, profile={})
    case.add("message_posted", author="customer", text="I am moving to Oslo.")
    case.show()
    turn = case.work()
    print(turn["decision"], turn["reason"])
