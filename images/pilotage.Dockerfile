# One image for the controller, the gateway, the count models, the simulator and the command line: each is a command in
# /opt/pilotage/bin. No entry point, so a manifest says which. Built from the repository's root:
#   docker build -f images/pilotage.Dockerfile .
#   docker build -f images/pilotage.Dockerfile --build-arg REQUIREMENTS=image-transformers.txt .   with torch: 6 GB
ARG BASE=python:3.11-slim-bookworm

# Everything that changes seldom: locked requirements, and the build backend so that the next layer needs no network.
# compileall ends with 1 where a file is for a newer Python, and torch has one.
FROM ${BASE} AS dependencies
ARG REQUIREMENTS=image.txt
COPY requirements/${REQUIREMENTS} /tmp/requirements.txt
RUN python3 -m venv /opt/pilotage \
 && /opt/pilotage/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --no-deps -r /tmp/requirements.txt \
 && /opt/pilotage/bin/pip install --no-cache-dir --disable-pip-version-check 'hatchling>=1.27' \
 && { /opt/pilotage/bin/python -m compileall -q -j 0 /opt/pilotage/lib >/dev/null || true; } \
 && rm /tmp/requirements.txt

FROM dependencies
COPY . /tmp/pilotage
RUN /opt/pilotage/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-compile /tmp/pilotage \
 && /opt/pilotage/bin/python -m compileall -q -j 0 /opt/pilotage/lib/python3*/site-packages/pilotage* \
 && rm -rf /tmp/pilotage
ENV PATH=/opt/pilotage/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
