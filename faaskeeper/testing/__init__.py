"""For whoever writes a provider: suites that its drivers must pass, as pytest classes.

They need pytest: ``pip install 'faaskeeper[testing]'``.

Subclass a suite, give it a fixture that makes the driver, and pytest runs every test::

    class TestMyTable(TableSuite):
        @pytest.fixture()
        def table(self, tmp_path):
            return MyTable(tmp_path)
"""
