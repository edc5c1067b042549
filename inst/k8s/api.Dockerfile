# The image of the pods that run R: faucet, the API's R packages, and the API. Build it in the API's directory, on the
# image of faucet, which a checkout of faucet makes with `docker build -f inst/docker/Dockerfile -t faucet .`:
#
#   docker build -f k8s/api.Dockerfile -t hello:1 .
#
# A new version gets a new tag: Kubernetes rolls out what has changed, and can go back.

ARG FAUCET=faucet
FROM ${FAUCET}
USER root

# The API's R packages, compiled by Debian: r-cran-dplyr, r-cran-dbi ... in the place of r-cran-jsonlite.
# tini: as process 1 it reaps what workers leave behind. R would not, and nothing in a pod does what `docker --init` does.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      r-cran-jsonlite \
      tini \
 && rm -rf /var/lib/apt/lists/* /srv/api/*

COPY --chown=10001 . /srv/api
# A number: Kubernetes cannot tell of a name that it is not root's.
USER 10001

# In exec form: a shell in between would get the SIGTERM and keep it. The settings are in api.yaml.
ENTRYPOINT ["tini", "--"]
CMD ["Rscript", "-e", "faucet::run('/srv/api')"]
