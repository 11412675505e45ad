# Heads that other servers might take for something else.

== a request line that ends in LF alone
> GET /a HTTP/1.1\nHost: localhost
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== LF alone everywhere
>| GET /a HTTP/1.1\nHost: localhost\n\n
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== a full URL to a server that is no proxy
> GET http://localhost/a HTTP/1.1
> Host: localhost
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== the beginning of HTTP/2
> PRI * HTTP/2.0
>
< HTTP/1.1 505 HTTP Version Not Supported
< Content-Type: text/plain
< Content-Length: 26
< Connection: close
<
<| http_version_not_supported
