// Drives github.com/diagridio/go-etcd-cron as Dapr does: one cron.Cron, a trigger function that answers immediately.
// Commands come on standard input, a line of JSON each, and are answered so: see tests/benchmarks/daemons.py.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/diagridio/go-etcd-cron/api"
	"github.com/diagridio/go-etcd-cron/cron"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Logarithmic histogram of lateness: 16 buckets an octave, from 1 us on.
const buckets = 16 * 32

type hist struct {
	n [buckets]atomic.Int64
}

func (h *hist) add(ns int64) {
	us := float64(ns) / 1000
	b := 0
	if us > 1 {
		b = int(math.Log2(us) * 16)
		if b >= buckets {
			b = buckets - 1
		}
	}
	h.n[b].Add(1)
}

func (h *hist) reset() {
	for i := range h.n {
		h.n[i].Store(0)
	}
}

func (h *hist) quantiles(qs ...float64) (int64, []float64) {
	var all int64
	var c [buckets]int64
	for i := range h.n {
		c[i] = h.n[i].Load()
		all += c[i]
	}
	out := make([]float64, len(qs))
	for k, q := range qs {
		want := int64(math.Ceil(q * float64(all)))
		var s int64
		for i := range c {
			s += c[i]
			if s >= want {
				out[k] = math.Pow(2, (float64(i)+0.5)/16) / 1000 // ms
				break
			}
		}
	}
	return all, out
}

var (
	triggers atomic.Int64
	early    atomic.Int64
	least    atomic.Int64
	late     hist
	counts   []atomic.Uint32
	outLock  sync.Mutex
	enc      = json.NewEncoder(os.Stdout)
)

func say(v any) {
	outLock.Lock()
	defer outLock.Unlock()
	_ = enc.Encode(v)
}

const probeFlag = uint64(1) << 40

func trigger(req *api.TriggerRequest, fn func(*api.TriggerResponse)) {
	now := time.Now().UnixNano()
	v := req.GetPayload().GetValue()
	if len(v) == 24 {
		epoch := int64(binary.LittleEndian.Uint64(v))
		interval := int64(binary.LittleEndian.Uint64(v[8:]))
		idx := binary.LittleEndian.Uint64(v[16:])
		if idx >= probeFlag {
			l := now - epoch
			say(map[string]any{"ev": "probe", "i": idx - probeFlag, "late_ms": float64(l) / 1e6, "at": float64(now) / 1e9})
		} else {
			k := int64(counts[idx].Add(1)) - 1
			l := now - (epoch + k*interval)
			if l < 0 {
				early.Add(1)
				for {
					m := least.Load()
					if l >= m || least.CompareAndSwap(m, l) {
						break
					}
				}
			}
			late.add(l)
		}
	}
	triggers.Add(1)
	fn(&api.TriggerResponse{Result: api.TriggerResponseResult_SUCCESS})
}

func payload(epoch, interval int64, idx uint64) *anypb.Any {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint64(b, uint64(epoch))
	binary.LittleEndian.PutUint64(b[8:], uint64(interval))
	binary.LittleEndian.PutUint64(b[16:], idx)
	return &anypb.Any{Value: b}
}

type command struct {
	Cmd     string  `json:"cmd"`
	Prefix  string  `json:"prefix"`
	From    int     `json:"from"`
	Count   int     `json:"count"`
	Par     int     `json:"par"`
	Mode    string  `json:"mode"`
	DueNs   int64   `json:"due_ns"`
	StepNs  int64   `json:"step_ns"`
	Every   string  `json:"every"`
	Secs    float64 `json:"secs"`
	Repeats uint32  `json:"repeats"`
}

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "")
	ns := flag.String("ns", "dapr", "")
	id := flag.String("id", "0", "")
	workers := flag.Uint("workers", 0, "0: the default (64)")
	most := flag.Int("jobs", 1<<20, "room for jobs")
	probe := flag.Bool("probe", false, "")
	flag.Parse()
	counts = make([]atomic.Uint32, *most)

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}})
	if err != nil {
		panic(err)
	}
	leaders := make(chan []*anypb.Any)
	var total atomic.Int64
	go func() {
		for d := range leaders {
			total.Store(int64(len(d)))
		}
	}()
	opts := cron.Options{
		Client: client, Namespace: *ns, ID: *id, TriggerFn: trigger,
		ReplicaData: &anypb.Any{Value: []byte("127.0.0.1:" + *id)}, WatchLeadership: leaders,
	}
	if *workers > 0 {
		w := uint32(*workers)
		opts.Workers = &w
	}
	c, err := cron.New(opts)
	if err != nil {
		panic(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		err := c.Run(ctx)
		if ctx.Err() != nil {
			say(map[string]any{"ev": "final", "triggers": triggers.Load()})
			os.Exit(0)
		}
		say(map[string]any{"ev": "ended", "err": fmt.Sprint(err)})
		fmt.Fprintln(os.Stderr, "cron.Run has ended:", err)
		os.Exit(3)
	}()
	look := func() map[string]any {
		return map[string]any{"ev": "look", "at": float64(time.Now().UnixNano()) / 1e9, "started": triggers.Load(),
			"recorded": triggers.Load(), "units": 0, "elected": c.IsElected(), "leaders": total.Load()}
	}
	if *probe {
		go probing(ctx, c)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<20)
	for in.Scan() {
		var cmd command
		if err := json.Unmarshal(in.Bytes(), &cmd); err != nil {
			panic(err)
		}
		switch cmd.Cmd {
		case "look":
			say(look())
		default:
			obey(ctx, client, c, *ns, cmd)
		}
	}
}

func probing(ctx context.Context, c api.Interface) {
	for i := uint64(0); ; i++ {
		due := time.Now().Add(100 * time.Millisecond)
		text := due.UTC().Format(time.RFC3339Nano)
		err := c.Add(ctx, fmt.Sprintf("probe-%d", i), &api.Job{DueTime: &text, Payload: payload(due.UnixNano(), 0, probeFlag+i)})
		say(map[string]any{"ev": "probe-added", "i": i, "at": float64(time.Now().UnixNano()) / 1e9, "err": fmt.Sprint(err)})
		time.Sleep(100 * time.Millisecond)
	}
}

func obey(ctx context.Context, client *clientv3.Client, c api.Interface, ns string, cmd command) {
	switch cmd.Cmd {
	case "reset":
		late.reset()
		least.Store(0)
		early.Store(0)
		say(map[string]any{"ev": "reset"})
	case "dump":
		n, q := late.quantiles(0.01, 0.5, 0.9, 0.99, 0.999, 1)
		say(map[string]any{"ev": "dump", "n": n, "p1": q[0], "p50": q[1], "p90": q[2], "p99": q[3], "p999": q[4], "max": q[5], "least_us": float64(least.Load()) / 1000, "early": early.Load()})
	case "add":
		var interval time.Duration
		var every *string
		if cmd.Every != "" {
			d, err := time.ParseDuration(cmd.Every)
			if err != nil {
				panic(err)
			}
			interval = d
			s := "@every " + cmd.Every
			every = &s
		}
		var next atomic.Int64
		var failed atomic.Int64
		var wg sync.WaitGroup
		begin := time.Now()
		for range max(cmd.Par, 1) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for {
					i := int(next.Add(1)) - 1
					if i >= cmd.Count {
						return
					}
					n := cmd.From + i
					due := cmd.DueNs + int64(i)*cmd.StepNs
					text := time.Unix(0, due).UTC().Format(time.RFC3339Nano)
					job := &api.Job{DueTime: &text, Schedule: every, Payload: payload(due, int64(interval), uint64(n))}
					if cmd.Repeats > 0 {
						job.Repeats = &cmd.Repeats
					}
					var err error
					if cmd.Mode == "ifnot" {
						err = c.AddIfNotExists(ctx, cmd.Prefix+strconv.Itoa(n), job)
					} else {
						err = c.Add(ctx, cmd.Prefix+strconv.Itoa(n), job)
					}
					if err != nil {
						if failed.Add(1) == 1 {
							fmt.Fprintln(os.Stderr, "add:", err)
						}
					}
				}
			}()
		}
		wg.Wait()
		say(map[string]any{"ev": "added", "n": cmd.Count, "sec": time.Since(begin).Seconds(), "failed": failed.Load()})
	case "delprefix":
		begin := time.Now()
		err := c.DeletePrefixes(ctx, cmd.Prefix)
		say(map[string]any{"ev": "deleted", "sec": time.Since(begin).Seconds(), "err": fmt.Sprint(err)})
	case "waitempty": // polls the count of the jobs' keys
		polls := 0
		end := time.Now().Add(time.Duration(cmd.Secs * float64(time.Second)))
		for {
			r, err := client.Get(ctx, ns+"/jobs/"+cmd.Prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
			polls++
			if err != nil {
				panic(err)
			}
			if r.Count == 0 || time.Now().After(end) {
				say(map[string]any{"ev": "empty", "at": float64(time.Now().UnixNano()) / 1e9, "polls": polls, "left": r.Count})
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}
