module xchronos.example/peer

go 1.24.10

require (
	github.com/diagridio/go-etcd-cron v0.0.0
	go.etcd.io/etcd/client/v3 v3.5.21
	google.golang.org/protobuf v1.36.6
)
