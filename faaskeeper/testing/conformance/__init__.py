"""Suites that a provider must pass, as pytest classes.

They need pytest: ``pip install 'faaskeeper[testing]'``. ``drivers`` has a suite for each kind of
driver, ``systems`` those for a whole deployment. Subclass a suite, give it a fixture that makes the
driver, and pytest runs every test::

    class TestMyTable(TableSuite):
        @pytest.fixture()
        def table(self, tmp_path):
            return MyTable(tmp_path)

``memory`` is a whole provider in memory, to read and to try a suite with.
"""
