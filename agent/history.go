package agent

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sallyport/agent/state"
	"sallyport/configs"
)

const (
	historyDir = "policies"
	// mostVersions is how many versions of agent.yaml are kept.
	mostVersions = 200
	// versionLimit bounds the file of one: the text, with the escapes of JSON, and what is known of it.
	versionLimit = 6*configs.MaxSize + 4<<10
)

// A PolicyVersion is an agent.yaml that was in force.
type PolicyVersion struct {
	// Policy is the hash of its rules, as the record and the relay have it; several files can have the same.
	Policy string `json:"policy"`
	// File is the hash of the text.
	File string `json:"file"`
	// First and Last are when it was put in force first and last.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Text  string    `json:"text"`
}

// keepVersion keeps the text of a configuration that is in force from now on, and gives the version before; the zero version
// if none is known.
func keepVersion(dir state.Dir, text []byte, policy string, now time.Time) (before PolicyVersion, err error) {
	sub, err := dir.Sub(historyDir)
	if err != nil {
		return before, fmt.Errorf("keep the version of the policy: %w", err)
	}
	all, err := PolicyHistory(dir)
	if err != nil {
		return before, err
	}
	if len(all) > 0 {
		before = all[0]
	}
	sum := sha256.Sum256(text)
	v := PolicyVersion{Policy: policy, File: "sha256:" + hex.EncodeToString(sum[:]), First: now.UTC(), Last: now.UTC(), Text: string(text)}
	if i := slices.IndexFunc(all, func(old PolicyVersion) bool { return old.File == v.File }); i >= 0 {
		v.First = all[i].First
		all = slices.Delete(all, i, i+1)
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = sub.Write(versionFile(v), data)
	}
	if err != nil {
		return before, fmt.Errorf("keep the version of the policy: %w", err)
	}
	for _, old := range all[min(len(all), mostVersions-1):] {
		if err := sub.Remove(versionFile(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return before, fmt.Errorf("forget an old version of the policy: %w", err)
		}
	}
	return before, nil
}

func versionFile(v PolicyVersion) string { return strings.TrimPrefix(v.File, "sha256:") + ".json" }

// PolicyHistory gives the versions of agent.yaml that the agent with this state directory was run by, the newest first: the
// last mostVersions of them.
func PolicyHistory(dir state.Dir) ([]PolicyVersion, error) {
	sub, err := dir.Sub(historyDir)
	if err != nil {
		return nil, fmt.Errorf("read the versions of the policy: %w", err)
	}
	names, err := sub.Names()
	if err != nil {
		return nil, fmt.Errorf("read the versions of the policy: %w", err)
	}
	all := []PolicyVersion{}
	for _, name := range names {
		data, err := sub.Read(name, versionLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the agent has forgotten it a moment ago
		}
		var v PolicyVersion
		if err == nil {
			err = json.Unmarshal(data, &v)
		}
		sum := sha256.Sum256([]byte(v.Text))
		if err == nil && (v.File != "sha256:"+hex.EncodeToString(sum[:]) || name != versionFile(v)) {
			err = errors.New("its text is not the one that it is named for")
		}
		if err != nil {
			return nil, fmt.Errorf("read the version %s of the policy (move it away to go on without): %w", sub.Path(name), err)
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b PolicyVersion) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.File, b.File)) })
	return all, nil
}

// inForce keeps the version that is in force now, and tells the relay if its rules are others than before.
func (a *Agent) inForce(c *Config, policy string) {
	if c.text == nil {
		return
	}
	before, err := keepVersion(a.deps.State, c.text, policy, time.Now())
	if err != nil {
		a.log.Error("the version of the policy is not kept", "error", err)
	}
	if before.Policy != "" && before.Policy != policy {
		a.notify(policyNotice{Policy: policy, Was: before.Policy})
	}
}

// policyKind is the control message that tells the relay of changes of the policy; policyNotice is its body.
const policyKind = "policy"

type policyNotice struct {
	Policy string `json:"policy"` // in force
	Was    string `json:"was,omitempty"`
	// Refused is why a file was not put in force: unsigned or invalid.
	Refused string `json:"refused,omitempty"`
}

// mostNotices bounds those that wait for a link; the oldest go.
const mostNotices = 32

// notify tells the relay, once there is a link.
func (a *Agent) notify(n policyNotice) {
	a.noticeMu.Lock()
	a.notices = append(a.notices, n)
	a.notices = a.notices[max(0, len(a.notices)-mostNotices):]
	a.noticeMu.Unlock()
	a.sendNotices()
}

// sendNotices sends what waits. An older relay passes over it.
func (a *Agent) sendNotices() {
	a.noticeMu.Lock()
	defer a.noticeMu.Unlock()
	for len(a.notices) > 0 && a.sendOver(policyKind, a.notices[0]) {
		a.notices = a.notices[1:]
	}
}
