// The one way of discovery that Prometheus has here, of two dozen: takes the place of its plugins/plugins.go.
package plugins

import _ "github.com/prometheus/prometheus/discovery/kubernetes"
