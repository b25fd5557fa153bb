# certificates.sh - sourced by up.sh: one throw-away CA; RSA with SHA-256 for Apache and the DC, EC P-384 with SHA-384
# for winauthd, because the hash of a channel binding follows the certificate's own.

# certificate FILE NAMES DIGEST KEYOPTIONS...
certificate() (
  cd "$S/tls"
  file=$1 names=$2 digest=$3
  shift 3
  openssl req "$@" -nodes -keyout "$file.key" -out "$file.csr" -subj "/CN=${names%%,*}" 2>/dev/null
  echo "subjectAltName=DNS:${names//,/,DNS:}" >"$file.ext"
  openssl x509 -req -in "$file.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 "-$digest" -out "$file.pem" \
    -extfile "$file.ext" 2>/dev/null
)
(
  cd "$S/tls"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 \
    -subj '/CN=adlab CA' -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
)
certificate web intranet.corp.example,legacy.corp.example,portal.corp.example sha256 -newkey rsa:2048
certificate epa epa.corp.example sha384 -newkey ec -pkeyopt ec_paramgen_curve:P-384
certificate dc1 dc1.corp.example,corp.example sha256 -newkey rsa:2048
# A second certificate for winauthd's name: what a TLS-inspecting middlebox would show, so that a binding is wrong.
certificate other epa.corp.example sha256 -newkey rsa:2048
chmod 600 "$S"/tls/*.key
