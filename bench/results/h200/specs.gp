# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.
set encoding utf8
set datafile separator "\t"
set title 'specs: gpu (µs) against specs'."\n".'NVIDIA H200'
set xlabel 'specs'
set ylabel 'gpu (µs), median and quartiles'
set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top vertical Left reverse samplen 2 noenhanced
set key title 'batch, path' left
set logscale x
set xtics ('1' 1, '2' 2, '4' 4, '8' 8, '16' 16, '32' 32, '64' 64, '128' 128, '256' 256)
set xrange [0.75785828325519911:337.79402515786091]
set logscale y
set ytics ('2' 2, '5' 5, '10' 10, '20' 20, '50' 50, '100' 100, '200' 200)
set yrange [1.2897200679013512:337.13526617103923]
set terminal svg size 960,560 dynamic noenhanced font 'Helvetica,Arial,sans-serif,15' background 'white'
set output 'specs.svg'
plot 'specs.tsv' index 0 using 1:2:3:4 with yerrorlines lc rgb '#0072B2' lw 2 pt 7 ps 1 title 'decode, mixed', \
     'specs.tsv' index 1 using 1:2:3:4 with yerrorlines lc rgb '#D55E00' lw 2 pt 5 ps 1 title 'decode, loop', \
     'specs.tsv' index 2 using 1:2:3:4 with yerrorlines lc rgb '#009E73' lw 2 pt 9 ps 1 title 'prefill, mixed', \
     'specs.tsv' index 3 using 1:2:3:4 with yerrorlines lc rgb '#CC79A7' lw 2 pt 13 ps 1 title 'prefill, loop'
set terminal pngcairo size 1920,1120 noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2
set output 'specs.png'
replot
set output
