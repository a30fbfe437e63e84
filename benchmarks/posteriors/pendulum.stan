// A driven, damped pendulum; solved by ode_rk45.
functions {
  vector slope(real t, vector x, real damping, real stiffness, real drive, real frequency) {
    return [x[2], drive * cos(frequency * t) - damping * x[2] - stiffness * sin(x[1])]';
  }
}
data {
  int<lower=1> n;
  array[n] real times;
  array[n] real angle;
  real frequency;
  real rtol;
  real atol;
}
parameters {
  real<lower=0> damping;
  real<lower=0> stiffness;
  real<lower=0> drive;
  real angle_initial;
  real speed_initial;
  real<lower=0> angle_scale;
}
model {
  vector[2] initial = [angle_initial, speed_initial]';
  array[n] vector[2] x = ode_rk45_tol(slope, initial, 0.0, times, rtol, atol, 100000,
                                      damping, stiffness, drive, frequency);
  damping ~ lognormal(log(0.3), 0.5);
  stiffness ~ lognormal(log(4), 0.3);
  drive ~ lognormal(0, 0.5);
  angle_initial ~ normal(0, 1);
  speed_initial ~ normal(0, 1);
  angle_scale ~ normal(0, 0.5);
  angle ~ normal(x[ : , 1], angle_scale);
}
