"""The layers of a request. `app.py` puts them in order."""
