"""Records of the store that cannot be read, at the command line."""


def test_what_cannot_be_read_has_a_row_and_can_be_removed(ctl, daemon):
    from xchronos.store.contract import Put, Txn

    keys, store = daemon.cluster.registry.keys, daemon.cluster.registry.store
    spoilt = (keys.job("rawjob"), keys.pending + "a.service/x/0", keys.machine("bad"))
    for key in spoilt:
        daemon.run(store.commit(Txn((), (Put(key, b"TEXT"),))))
    for command, key in zip(("list-units", "list-executions", "list-machines"), spoilt, strict=True):
        said = ctl(command)
        assert said.exit_code == 0
        assert "unreadable" in said.stdout
        assert key in said.stdout
    assert "cannot" not in ctl("destroy", "--unreadable", *spoilt).stderr
    for command in ("list-units", "list-executions", "list-machines"):
        assert "unreadable" not in ctl(command).stdout
