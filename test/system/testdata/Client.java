import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * A caller in Java, the JDK's own client. Arguments: base URL, CA file; the key comes by standard input. It prints "ok"
 * as its last line if every answer was right, over HTTP/1.1 and HTTP/2.
 */
public class Client {
  public static void main(String[] args) throws Exception {
    String key = new String(System.in.readAllBytes()).trim();
    for (HttpClient.Version version : HttpClient.Version.values()) {
      new Client(args[0], args[1], key, version).run();
    }
    System.out.println("ok");
    System.exit(0); // the client's own threads would wait
  }

  private final String base;
  private final String key;
  private final HttpClient client;
  private final HttpClient.Version version;

  Client(String base, String ca, String key, HttpClient.Version version) throws Exception {
    this.base = base;
    this.key = key;
    this.version = version;
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream in = new FileInputStream(ca)) {
      store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext tls = SSLContext.getInstance("TLS");
    tls.init(null, trust.getTrustManagers(), null);
    client = HttpClient.newBuilder().sslContext(tls).version(version).connectTimeout(Duration.ofSeconds(20)).build();
  }

  void run() throws Exception {
    HttpResponse<String> got = client.send(request("/get?a=1&b=%20x").build(), BodyHandlers.ofString());
    check(got.statusCode() == 200 && got.body().contains("\"a\"") && !got.body().contains(key), "GET: " + got.body());
    check(got.version() == version, "answered by " + got.version());

    byte[] body = new byte[3_000_000];
    for (int i = 0; i < body.length; i++) body[i] = (byte) (i * 31);
    String digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
    HttpResponse<String> posted =
        client.send(request("/x/digest").POST(BodyPublishers.ofByteArray(body)).build(), BodyHandlers.ofString());
    check(posted.body().equals(body.length + " " + digest + " " + body.length), "POST: " + posted.body());

    HttpResponse<String> streamed =
        client.send(
            request("/x/digest").POST(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))).build(),
            BodyHandlers.ofString());
    check(streamed.body().startsWith(body.length + " " + digest), "streamed POST: " + streamed.body());

    boolean broken = false;
    try {
      broken = client.send(request("/x/breaks?framing=chunks").build(), BodyHandlers.ofByteArray()).statusCode() != 200;
    } catch (java.io.IOException e) {
      broken = true;
    }
    check(broken, "half an answer looks whole");

    HttpRequest bare = HttpRequest.newBuilder(URI.create(base + "/get")).build();
    HttpResponse<String> refused = client.send(bare, BodyHandlers.ofString());
    check(refused.statusCode() == 401 && refused.body().contains("\"relay\""), "without key: " + refused.body());

    ArrayList<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
    for (int i = 0; i < 50; i++) all.add(client.sendAsync(request("/base64/decode/" + encoded(i)).build(), BodyHandlers.ofString()));
    for (int i = 0; i < 50; i++) check(all.get(i).get().body().equals("j" + i), "call " + i + " got another's answer");
  }

  private static String encoded(int i) {
    return java.util.Base64.getUrlEncoder().encodeToString(("j" + i).getBytes());
  }

  private HttpRequest.Builder request(String path) {
    return HttpRequest.newBuilder(URI.create(base + path)).header("X-API-Key", key).timeout(Duration.ofSeconds(60));
  }

  private void check(boolean ok, String what) {
    if (!ok) throw new AssertionError(version + ": " + what);
  }
}
